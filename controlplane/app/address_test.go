//go:build linux

package app

import (
	"context"
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A port that is to be Envoy's is taken by nobody else meanwhile, not even by
// the kernel for a connection, and is there for who asks for it by number.
func TestFreePortIsKept(t *testing.T) {
	t.Parallel()
	address, release, err := freePort("127.0.0.1:0")
	require.NoError(t, err)
	defer release()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	require.NotZero(t, number)

	peer, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, peer.Close()) }()
	// A connection that may come from no other port.
	only := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		if err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, ipLocalPortRange, number<<16|number)
		}); err != nil {
			return err
		}
		return failed
	}}
	dial := func() error {
		conn, err := only.DialContext(context.Background(), "tcp", peer.Addr().String())
		if err == nil {
			err = conn.Close()
		}
		return err
	}
	require.ErrorIs(t, dial(), syscall.EADDRNOTAVAIL, "it needs Linux 6.3")

	envoy, err := net.Listen("tcp", address)
	require.NoError(t, err)
	require.NoError(t, envoy.Close())

	release()
	require.NoError(t, dial(), "it was the reservation that kept the port")
}

const ipLocalPortRange = 51 // since Linux 6.3

// Any other port is left as it is.
func TestFreePortOfANumber(t *testing.T) {
	t.Parallel()
	address, release, err := freePort("127.0.0.1:10000")
	require.NoError(t, err)
	release()
	require.Equal(t, "127.0.0.1:10000", address)
	_, _, err = freePort("10000")
	require.Error(t, err)
}
