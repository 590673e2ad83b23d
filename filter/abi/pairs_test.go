package abi

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAppendPairs(t *testing.T) {
	t.Parallel()
	require.Equal(t, []byte("\x02\x00\x00\x00"+"\x01\x00\x00\x00\x02\x00\x00\x00"+"\x03\x00\x00\x00\x00\x00\x00\x00"+"a\x00bc\x00"+"def\x00\x00"),
		appendPairs(nil, [][2]string{{"a", "bc"}, {"def", ""}}))
	require.Equal(t, []byte{0, 0, 0, 0}, appendPairs(nil, nil))
}
