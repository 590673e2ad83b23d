package abi

// appendPairs appends headers as the ABI passes them: their number, the
// lengths of all names and values, then all names and values, each with a NUL.
func appendPairs(dst []byte, pairs [][2]string) []byte {
	dst = put32(dst, len(pairs))
	for i := range pairs {
		dst = put32(dst, len(pairs[i][0]))
		dst = put32(dst, len(pairs[i][1]))
	}
	for i := range pairs {
		dst = append(dst, pairs[i][0]...)
		dst = append(dst, 0)
		dst = append(dst, pairs[i][1]...)
		dst = append(dst, 0)
	}
	return dst
}

func put32(dst []byte, n int) []byte {
	return append(dst, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
}
