package ir

import (
	"fmt"
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
		if vh.Routes[i].Match.Miss(method, path, headers) == "" {
			return &vh.Routes[i]
		}
	}
	return nil
}

// HostOf is the virtual host that answers for an authority, nil where the Edge
// has none, which compiled ones always have.
func HostOf(edge Edge, authority string) *VirtualHost {
	return matchHost(edge.VirtualHosts, authority)
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

// Miss says in words why a request is not taken, "" where it is. Path is
// normalised and without its query.
func (m RouteMatch) Miss(method, path string, headers map[string]string) string {
	if len(m.Methods) > 0 && !slices.Contains(m.Methods, method) {
		return fmt.Sprintf("method %s is not %s", method, strings.Join(m.Methods, " or "))
	}
	if m.Within != "" && !UnderPrefix(m.Within, path) {
		return fmt.Sprintf("path %s is not under %s", path, m.Within)
	}
	if !m.Path.takes(path) {
		return fmt.Sprintf("path %s %s", path, m.Path.unlike())
	}
	for _, h := range m.Headers {
		if !h.takes(headers) {
			return h.unlike(headers)
		}
	}
	return ""
}

func (p Path) unlike() string {
	switch p.Kind {
	case PathPrefix:
		return "is not under " + p.Value
	case PathExact:
		return "is not " + p.Value
	case PathTemplate:
		return "does not fit " + p.Value
	case PathRegex:
		return "does not match " + p.Value
	}
	return "is of no kind"
}

func (h HeaderMatch) unlike(headers map[string]string) string {
	value, present := headers[h.Name]
	switch {
	case h.Kind == HeaderAbsent:
		return "header " + h.Name + " is there"
	case !present:
		return "no header " + h.Name
	case h.Kind == HeaderPrefix:
		return fmt.Sprintf("header %s %q does not begin with %q", h.Name, value, h.Value)
	case h.Kind == HeaderRegex:
		return fmt.Sprintf("header %s %q does not match %s", h.Name, value, h.Value)
	}
	return fmt.Sprintf("header %s %q is not %q", h.Name, value, h.Value)
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
