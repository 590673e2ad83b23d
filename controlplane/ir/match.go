package ir

import (
	"regexp"
	"slices"
	"strings"
)

// Match answers what Envoy's router answers for a request to edge: the
// cluster that it is sent to ("" where Envoy answers by itself) and the name of
// the route. Path is the normalised path, with or without its query; host may
// carry a port; headers have lower-case names, and several values of one name
// are joined with a comma.
//
// It is the reference for `seawall match` and for tests; it compiles
// expressions on each call and is not meant for traffic.
func Match(edge Edge, method, host, path string, headers map[string]string) (cluster, routeName string) {
	route := MatchRoute(edge, method, host, path, headers)
	if route == nil {
		return "", ""
	}
	return route.Cluster, route.Name
}

// MatchRoute is Match, returning the whole route: nil where the Edge has none,
// which compiled ones always have.
func MatchRoute(edge Edge, method, host, path string, headers map[string]string) *Route {
	vh := matchHost(edge.VirtualHosts, host)
	if vh == nil {
		return nil
	}
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	for i := range vh.Routes {
		if vh.Routes[i].Match.takes(method, path, headers) {
			return &vh.Routes[i]
		}
	}
	return nil
}

func matchHost(hosts []VirtualHost, authority string) *VirtualHost {
	host := strings.ToLower(stripPort(authority))
	best, bestRank := -1, -1
	for i := range hosts {
		for _, domain := range hosts[i].Domains {
			if rank := DomainRank(domain, host); rank > bestRank {
				best, bestRank = i, rank
			}
		}
	}
	if best < 0 {
		return nil
	}
	return &hosts[best]
}

// DomainRank says how specifically domain takes host: -1 not at all, 0 for
// "*", more for a longer suffix "*.example.com", most for the host itself. Both
// are in lower case and without port.
func DomainRank(domain, host string) int {
	const exact = 1 << 16
	switch {
	case domain == host:
		return exact
	case domain == "*":
		return 0
	case strings.HasPrefix(domain, "*"):
		suffix := domain[1:]
		if len(host) > len(suffix) && strings.HasSuffix(host, suffix) {
			return len(suffix)
		}
	}
	return -1
}

// stripPort cuts what follows the last colon outside brackets, as Envoy does
// with ignore_port_in_host_matching.
func stripPort(authority string) string {
	colon := strings.LastIndexByte(authority, ':')
	if colon < 0 || strings.LastIndexByte(authority, ']') > colon {
		return authority
	}
	return authority[:colon]
}

func (m RouteMatch) takes(method, path string, headers map[string]string) bool {
	if len(m.Methods) > 0 && !slices.Contains(m.Methods, method) {
		return false
	}
	if m.Within != "" && !UnderPrefix(m.Within, path) {
		return false
	}
	if !m.Path.takes(path) {
		return false
	}
	for _, h := range m.Headers {
		if !h.takes(headers) {
			return false
		}
	}
	return true
}

func (p Path) takes(path string) bool {
	switch p.Kind {
	case PathPrefix:
		return UnderPrefix(p.Value, path)
	case PathExact:
		return path == p.Value
	case PathTemplate:
		return fullMatch(TemplateRegex(p.Value), path)
	case PathRegex:
		return fullMatch(p.Value, path)
	}
	return false
}

func (h HeaderMatch) takes(headers map[string]string) bool {
	value, present := headers[h.Name]
	switch h.Kind {
	case HeaderAbsent:
		return !present
	case HeaderPresent:
		return present
	case HeaderExact:
		return present && value == h.Value
	case HeaderPrefix:
		return present && strings.HasPrefix(value, h.Value)
	case HeaderRegex:
		return present && fullMatch(h.Value, value)
	}
	return false
}

// UnderPrefix reports whether path is prefix or lies below it, by whole
// segments: /a holds /a, /a/ and /a/b, not /ab. "/" holds everything.
func UnderPrefix(prefix, path string) bool {
	if prefix == "/" {
		return strings.HasPrefix(path, "/")
	}
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// TemplateRegex is the RE2 expression, over the whole path, of a template such
// as /users/{id}: a segment that is a placeholder takes one non-empty segment,
// everything else stands for itself.
func TemplateRegex(template string) string {
	segments := strings.Split(template, "/")
	for i, s := range segments {
		if strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}") {
			segments[i] = "[^/]+"
		} else {
			segments[i] = regexp.QuoteMeta(s)
		}
	}
	return strings.Join(segments, "/")
}

// fullMatch takes a broken expression as "no": compiled Edges have none, and
// Envoy would refuse it.
func fullMatch(expr, s string) bool {
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	return err == nil && re.MatchString(s)
}
