package policy

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// Bounds on the comparison of routes: how many before it a route is compared
// with, and of how many the expressions are compiled, which takes up to 1 MiB
// each.
const (
	maxCompared = 1000
	maxCompiled = 50
)

// reachRules warn of routes that no request gets to, and of paths of the
// service on which no route takes anything.
func (w *world) reachRules(o *object, s ResiliencePolicySpec) {
	matches := make([]matcher, len(s.Routes))
	left := maxCompiled
	for i := range s.Routes {
		matches[i] = newMatcher(s.Routes[i].Match, &left)
	}
	paths := w.pathsOf(s.Service)
	for i := range s.Routes {
		r, path := &s.Routes[i], fmt.Sprintf("spec.routes[%d]", i)
		if o.isBad(path) {
			continue
		}
		usable := func(j int) bool { return !o.isBad(fmt.Sprintf("spec.routes[%d]", j)) }
		if by := shadowedBy(matches, i, usable); len(by) > 0 {
			o.fail(diag.UnreachableRoute, path, "", "route %q is never reached: %s", r.Name, takers(s.Routes, by))
			continue
		}
		if m := r.Match.Path; m != nil && m.Regex != "" && matches[i].noPath() {
			o.fail(diag.UnreachableRoute, path+".match.path.regex", "start it with /", "route %q is never reached: the expression has to match the whole path, which starts with /", r.Name)
			continue
		}
		if len(paths) > 0 && !slices.ContainsFunc(paths, matches[i].reaches) {
			o.fail(diag.RouteOutside, path+".match.path", "", "route %q lies outside of the paths of service %q: %s", r.Name, s.Service, strings.Join(paths, ", "))
		}
	}
	if o.isBad("spec.routes") || len(s.Routes) == 0 {
		return
	}
	for _, p := range paths {
		if !slices.ContainsFunc(matches, func(m matcher) bool { return m.reaches(p) }) {
			o.fail(diag.PathWithoutRoute, "spec.routes", "add a route for it, or a last route without match",
				"no route takes anything under %s, which belongs to service %q: its requests are answered 404", p, s.Service)
		}
	}
}

// TakesEverything reports whether each request to the service finds a route;
// else some are answered 404.
func (s *ResiliencePolicySpec) TakesEverything() bool {
	return slices.ContainsFunc(s.Routes, func(r Route) bool { return r.Match.everything() })
}

// pathsOf are the paths of a service, nil where they are not known for certain.
func (w *world) pathsOf(service string) []string {
	o := w.services[service]
	if o == nil || o.isBad("spec.paths") {
		return nil
	}
	return spec[Service](o).Spec.Paths
}

func takers(routes []Route, by []int) string {
	names := make([]string, len(by))
	for i, j := range by {
		names[i] = fmt.Sprintf("%q", routes[j].Name)
	}
	if len(by) == 1 && routes[by[0]].Match.everything() {
		return names[0] + " before it matches everything"
	}
	if len(by) == 1 {
		return names[0] + " before it takes all its requests"
	}
	return strings.Join(names, " and ") + " before it take all its requests"
}

// shadowedBy names earlier routes that together take all that route i would:
// one, or one for each of its methods; nil where some of it is left.
func shadowedBy(matches []matcher, i int, usable func(int) bool) []int {
	methods := matches[i].Methods
	if len(methods) == 0 {
		methods = []string{""} // any
	}
	var by []int
	for _, method := range methods {
		found := -1
		for j := max(0, i-maxCompared); j < i && found < 0; j++ {
			if matches[j].takesMethod(method) && matches[j].covers(&matches[i]) && usable(j) {
				found = j
			}
		}
		if found < 0 {
			return nil
		}
		if !slices.Contains(by, found) {
			by = append(by, found)
		}
	}
	return by
}

// matcher is a Match with its expressions compiled, to compare it with others.
// What it says of two of them is never wrong, but may be "do not know".
type matcher struct {
	Match
	path     *regexp.Regexp   // over the whole path; nil where it is not known
	headers  []*regexp.Regexp // of each header, over the whole value
	literal  string           // with which all that path takes begins
	complete bool             // and that is all that it takes
}

// newMatcher compiles as many expressions as are left.
func newMatcher(m Match, left *int) matcher {
	out := matcher{Match: m, headers: make([]*regexp.Regexp, len(m.Headers))}
	if m.Path != nil {
		out.path = whole(m.Path.Regex, left)
		out.literal, out.complete = literalPrefix(m.Path.Regex)
	}
	for i, h := range m.Headers {
		out.headers[i] = whole(h.Regex, left)
	}
	return out
}

// literalPrefix is the text with which all that an expression takes begins;
// complete says that it takes nothing else.
func literalPrefix(expr string) (prefix string, complete bool) {
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil || expr == "" {
		return "", false
	}
	if parsed = parsed.Simplify(); parsed.Op == syntax.OpConcat {
		parsed = parsed.Sub[0]
	} else {
		complete = true
	}
	if parsed.Op != syntax.OpLiteral || parsed.Flags&syntax.FoldCase != 0 {
		return "", false
	}
	return string(parsed.Rune), complete
}

// whole compiles an expression that takes a whole text.
func whole(expr string, left *int) *regexp.Regexp {
	if expr == "" || *left == 0 {
		return nil
	}
	*left--
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return nil // a finding already
	}
	return re
}

func (m *matcher) takesMethod(method string) bool {
	return len(m.Methods) == 0 || method != "" && slices.Contains(m.Methods, method)
}

// covers reports whether every request that b takes is one that m takes, but
// for its method.
func (m *matcher) covers(b *matcher) bool {
	if !m.coversPath(b) {
		return false
	}
	for i := range m.Headers {
		implied := false
		for j := range b.Headers {
			implied = implied || impliesHeader(b.Headers[j], m.Headers[i], m.headers[i])
		}
		if !implied {
			return false
		}
	}
	return true
}

func (m *matcher) coversPath(b *matcher) bool {
	a := m.Path
	if a == nil || a.Prefix == "/" || a.Regex == ".*" || a.Regex == "/.*" {
		return true
	}
	if b.Path == nil {
		return false
	}
	p := *b.Path
	switch {
	case *a == p:
		return true
	case a.Prefix != "":
		return b.within(a.Prefix)
	case a.Template != "" && p.Exact != "":
		return templateCovers(a.Template, p.Exact)
	case a.Template != "" && p.Template != "":
		return templateCovers(a.Template, p.Template)
	case m.path != nil && p.Exact != "":
		return m.path.MatchString(p.Exact)
	}
	return false
}

// within reports whether all paths of b are under a prefix.
func (m *matcher) within(prefix string) bool {
	p := m.Path
	switch {
	case p == nil:
		return prefix == "/"
	case p.Exact != "":
		return underPrefix(prefix, p.Exact)
	case p.Prefix != "":
		return underPrefix(prefix, p.Prefix)
	case p.Template != "":
		return underPrefix(prefix, p.Template) // a placeholder equals nothing that a prefix can hold
	default:
		return m.complete && underPrefix(prefix, m.literal) || strings.HasPrefix(m.literal, strings.TrimSuffix(prefix, "/")+"/")
	}
}

// reaches reports whether m may take something under a prefix.
func (m *matcher) reaches(prefix string) bool {
	p := m.Path
	switch {
	case p == nil || m.within(prefix):
		return true
	case p.Exact != "":
		return false
	case p.Prefix != "":
		return underPrefix(p.Prefix, prefix)
	case p.Template != "":
		have, want := strings.Split(p.Template, "/"), strings.Split(strings.TrimSuffix(prefix, "/"), "/")
		return len(have) >= len(want) && templateCovers(strings.Join(have[:len(want)], "/"), strings.Join(want, "/"))
	default:
		return strings.HasPrefix(prefix, m.literal) || strings.HasPrefix(m.literal, prefix)
	}
}

// noPath reports whether the expression certainly matches no path.
func (m *matcher) noPath() bool { return m.literal != "" && m.literal[0] != '/' }

func underPrefix(prefix, path string) bool {
	if prefix == "/" {
		return true
	}
	rest, ok := strings.CutPrefix(path, prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// templateCovers compares segment by segment: a placeholder of a takes a
// placeholder and whatever is not empty.
func templateCovers(a, b string) bool {
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	if len(as) != len(bs) {
		return false
	}
	for i := range as {
		if strings.HasPrefix(as[i], "{") && bs[i] != "" {
			continue
		}
		if as[i] != bs[i] {
			return false
		}
	}
	return true
}

// impliesHeader reports whether a request that has header b has header a too.
func impliesHeader(b, a HeaderMatch, expr *regexp.Regexp) bool {
	if a.Name != b.Name {
		return false
	}
	absent := func(h HeaderMatch) bool { return h.Present != nil && !*h.Present }
	switch {
	case absent(a) || absent(b):
		return absent(a) && absent(b)
	case a.Present != nil:
		return true
	case a.Regex != "":
		return a.Regex == b.Regex || b.Exact != "" && expr != nil && expr.MatchString(b.Exact)
	case a.Prefix != "":
		return strings.HasPrefix(b.Exact, a.Prefix) || strings.HasPrefix(b.Prefix, a.Prefix)
	case a.Exact != "":
		return a.Exact == b.Exact
	}
	return false
}
