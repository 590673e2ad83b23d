package ir

import "strings"

// Selects reports whether a node gets an Edge with this selector.
func (s NodeSelector) Selects(cluster, id string) bool {
	return glob(s.Cluster, cluster) && glob(s.ID, id)
}

// glob matches s against a pattern in which "*" takes any run of characters.
// The empty pattern takes everything. It runs in O(len(pattern) × len(s)).
func glob(pattern, s string) bool {
	if pattern == "" {
		return true
	}
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s = s[i+len(part):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}
