package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// sockets are the control plane's own listeners.
type sockets struct{ admin, xds, telemetry net.Listener }

func listen(o Options) (s sockets, err error) {
	for _, a := range []struct {
		what, address string
		ln            *net.Listener
	}{{"admin", o.Admin, &s.admin}, {"xDS", o.XDS, &s.xds}, {"telemetry", o.Telemetry, &s.telemetry}} {
		if *a.ln, err = net.Listen("tcp", a.address); err != nil {
			s.close()
			return sockets{}, fmt.Errorf("%s address: %w", a.what, err)
		}
	}
	return s, nil
}

func (s sockets) close() {
	for _, ln := range []net.Listener{s.admin, s.xds, s.telemetry} {
		if ln != nil {
			_ = ln.Close()
		}
	}
}

func (s sockets) addresses() Addresses {
	return Addresses{Admin: s.admin.Addr().String(), XDS: s.xds.Addr().String(), Telemetry: s.telemetry.Addr().String()}
}

// freePort replaces port 0 by a port that is free now: it is Envoy that will
// listen there.
func freePort(address string) (string, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port != "0" {
		return address, err
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("data plane address: %w", err)
	}
	return ln.Addr().String(), ln.Close()
}

// loopbackOnly refuses what strangers could reach: TLS and tokens are not
// available yet.
func loopbackOnly(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	if host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return nil
	}
	return &exposedError{address}
}

type exposedError struct{ address string }

func (e *exposedError) Error() string {
	return fmt.Sprintf("%s is not a loopback address; TLS and tokens for others are not available yet", e.address)
}

// Hint says what to do.
func (e *exposedError) Hint() string {
	return "use 127.0.0.1, and an SSH tunnel or a proxy with authentication in front"
}

// ExitCode is that of a usage error (DESIGN section 5).
func (e *exposedError) ExitCode() int { return 2 }

var errNoEdge = errors.New("the policies have no edge for this machine")
