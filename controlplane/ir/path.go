package ir

import (
	"fmt"
	"strings"
)

// NormalizePath does to a path with its query what the listeners that we
// generate make Envoy do before it matches: escaped slashes are unescaped (and
// the client is sent there: redirect), dot segments and needless escapes are
// resolved as Chromium does it, and slashes are merged. ok is false for what
// Envoy answers 400.
func NormalizePath(path string) (normalized string, redirect, ok bool) {
	path, query, hasQuery := strings.Cut(path, "?")
	unescaped := strings.NewReplacer("%2F", "/", "%2f", "/", "%5C", `\`, "%5c", `\`).Replace(path)
	redirect = unescaped != path
	if !strings.HasPrefix(path, "/") || strings.Contains(path, "#") || strings.Contains(path, "%00") {
		return "", false, false
	}
	out := mergeSlashes(canonical(withoutDotParameters(unescaped)))
	if hasQuery {
		out += "?" + query
	}
	return out, redirect, true
}

// withoutDotParameters makes dot segments of "..;x" and ".;x", which some
// servers read as that. Escaped dots are left alone, as Envoy does.
func withoutDotParameters(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if dots, _, found := strings.Cut(s, ";"); found && (dots == "." || dots == "..") {
			segments[i] = dots
		}
	}
	return strings.Join(segments, "/")
}

// canonical resolves the path that Chromium's url::CanonicalizePath resolves.
func canonical(path string) string {
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		if n := dotAt(path, i); n > 0 {
			if len(out) == 0 || out[len(out)-1] != '/' {
				out = append(out, '.')
				i += n - 1
				continue
			}
			up, length := dotSegment(path, i+n)
			if length < 0 {
				out = append(out, '.')
				i += n - 1
				continue
			}
			if up {
				out = backUp(out)
			}
			i += n + length - 1
			continue
		}
		switch {
		case c == '\\':
			out = append(out, '/')
		case c == '%':
			if v, ok := escapedAt(path, i); ok && unreserved(v) {
				out = append(out, v)
				i += 2
				continue
			}
			out = append(out, '%')
		case c <= ' ' || c >= 0x7f || strings.IndexByte("\"#<>?^`{|}", c) >= 0:
			out = fmt.Appendf(out, "%%%02X", c)
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

// dotAt is the length of a dot, plain or escaped, at i, else 0.
func dotAt(path string, i int) int {
	if i < len(path) && path[i] == '.' {
		return 1
	}
	if v, ok := escapedAt(path, i); ok && v == '.' {
		return 3
	}
	return 0
}

// dotSegment looks at what follows a dot at the beginning of a segment: length
// is how much of it belongs to a "." or ".." segment, with its slash, -1 where
// it is none; up is true for "..".
func dotSegment(path string, i int) (up bool, length int) {
	slash := func(i int) bool { return path[i] == '/' || path[i] == '\\' }
	switch second := dotAt(path, i); {
	case i >= len(path):
		return false, 0
	case slash(i):
		return false, 1
	case second == 0:
		return false, -1
	case i+second >= len(path):
		return true, second
	case slash(i + second):
		return true, second + 1
	}
	return false, -1
}

// backUp drops the last segment of a path that ends with a slash.
func backUp(out []byte) []byte {
	if len(out) < 2 {
		return out
	}
	i := len(out) - 2
	for i > 0 && out[i] != '/' {
		i--
	}
	return out[:i+1]
}

func escapedAt(path string, i int) (byte, bool) {
	if i+2 >= len(path) || path[i] != '%' {
		return 0, false
	}
	high, low := unhex(path[i+1]), unhex(path[i+2])
	return byte(high<<4 | low), high >= 0 && low >= 0
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func mergeSlashes(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}
