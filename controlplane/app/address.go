package app

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// sockets are the control plane's own listeners.
type sockets struct{ admin, xds, telemetry net.Listener }

func listen(o controlOptions) (s sockets, err error) {
	for _, a := range []struct {
		what, address string
		ln            *net.Listener
	}{{"admin", o.admin, &s.admin}, {"xDS", o.xds, &s.xds}, {"telemetry", o.telemetry, &s.telemetry}} {
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

// freePort replaces port 0 by a port that is free. It is Envoy that will listen
// there, seconds later: until release the port is nobody else's. (A socket
// that is bound, and does not listen, lets others listen there who ask for the
// port by its number, but the kernel gives it to nobody who asks for any.)
func freePort(address string) (resolved string, release func(), err error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port != "0" {
		return address, func() {}, err
	}
	bound, fd, err := bind(address)
	if err != nil {
		return "", nil, fmt.Errorf("data plane address %s: %w", address, err)
	}
	return bound.String(), sync.OnceFunc(func() { _ = unix.Close(fd) }), nil
}

// bind is net.Listen without listening.
func bind(address string) (bound netip.AddrPort, fd int, err error) {
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return bound, 0, err
	}
	var family int
	var to unix.Sockaddr
	if ip4 := tcp.IP.To4(); ip4 != nil {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte(ip4)}
	} else {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte(tcp.IP.To16())}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return bound, 0, err
	}
	unix.CloseOnExec(fd)
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, to)
	}
	var at unix.Sockaddr
	if err == nil {
		at, err = unix.Getsockname(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return bound, 0, err
	}
	port := 0
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		port = at.Port
	case *unix.SockaddrInet6:
		port = at.Port
	}
	return netip.AddrPortFrom(tcp.AddrPort().Addr().Unmap(), uint16(port)), fd, nil
}

// loopbackOnly refuses what strangers could reach: TLS and tokens are not
// available yet.
func loopbackOnly(addresses ...string) error {
	for _, address := range addresses {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("address %q: %w", address, err)
		}
		if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
			return &exposedError{address}
		}
	}
	return nil
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
