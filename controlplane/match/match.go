package match

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/compile"
	"github.com/seawall-mesh/seawall/controlplane/diag"
	"github.com/seawall-mesh/seawall/controlplane/ir"
	"github.com/seawall-mesh/seawall/controlplane/policy"
)

// Request is what is asked about.
type Request struct {
	Method  string
	URL     string   // http://host/path?query; without a scheme, and with a host header without a host too
	Headers []string // "name: value"
}

// Answer is what becomes of the request at each edge.
type Answer struct {
	Method string `json:"method"`
	Host   string `json:"host"`
	Path   string `json:"path"` // as the router sees it, with its query
	// Redirect says that the client is first sent to Path, because its own path
	// has escaped slashes.
	Redirect bool   `json:"redirect"`
	Edges    []Edge `json:"edges"`
}

// Edge is what one edge does.
type Edge struct {
	Edge      string   `json:"edge"`
	Listeners []string `json:"listeners"` // address:port
	Domain    string   `json:"domain"`    // of the virtual host: the host, or "*"
	Service   string   `json:"service"`   // "" where none claims the request
	Route     string   `json:"route"`     // "" where none of the service takes it
	// Status is what Envoy answers by itself, 0 where the service is asked.
	Status  uint32   `json:"status,omitempty"`
	Probe   bool     `json:"probe,omitempty"` // Status is that of a probe
	Place   *Place   `json:"place,omitempty"` // of the route in a policy; nil for a service without one
	Earlier []Missed `json:"earlier"`         // routes that were tried before, in order
	// Guards are what looks at the request, in their order.
	Guards     []Guard   `json:"guards"`
	Objectives []string  `json:"objectives"` // that count it
	Settings   []Setting `json:"settings"`   // that hold for it
	Hint       string    `json:"hint,omitempty"`
}

// Served reports whether the request is sent on or answered as a probe.
func (e *Edge) Served() bool { return e.Status == 0 || e.Probe }

// Place is a place in a policy file.
type Place struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

// Missed is a route that did not take the request.
type Missed struct {
	Route  string `json:"route"` // service/route
	Reason string `json:"reason"`
}

// Guard is one guard of a route.
type Guard struct {
	Guard string `json:"guard"` // deadline, shed, breaker, pool, retry, fallback, dead-letter
	Name  string `json:"name,omitempty"`
	Acts  bool   `json:"acts"`
	Why   string `json:"why,omitempty"` // it does not act
}

// Setting is one setting with where it comes from.
type Setting struct {
	Field    string `json:"field"` // timeout.request
	Value    string `json:"value"`
	Default  bool   `json:"default"`
	Enforced bool   `json:"enforced"`
	Place    *Place `json:"place,omitempty"` // nil for a default
}

// Ask finds the answer. The model is what set compiles to, source the files of
// set. An error is about the request.
func Ask(model *ir.Model, set *policy.Set, source *policy.Source, r Request) (*Answer, error) {
	host, raw, err := split(r.URL)
	if err != nil {
		return nil, err
	}
	headers, err := headersOf(r.Headers)
	if err != nil {
		return nil, err
	}
	if h, given := headers["host"]; given {
		host = h
	}
	if host == "" {
		return nil, errors.New("the URL has no host: write http://HOST/PATH, or add -H 'host: HOST'")
	}
	path, redirect, ok := ir.NormalizePath(raw)
	if !ok {
		return nil, fmt.Errorf("envoy answers 400 to the path %q", raw)
	}
	answer := &Answer{Method: r.Method, Host: host, Path: path, Redirect: redirect, Edges: []Edge{}}
	for i := range model.Edges {
		answer.Edges = append(answer.Edges, askEdge(&model.Edges[i], set, source, answer, headers))
	}
	return answer, nil
}

// split takes a URL apart as clients do: the fragment is never sent.
func split(text string) (host, path string, err error) {
	if !strings.Contains(text, "://") && !strings.HasPrefix(text, "/") {
		text = "http://" + text
	}
	text, _, _ = strings.Cut(text, "#")
	scheme, rest, absolute := strings.Cut(text, "://")
	if !absolute {
		return "", text, nil
	}
	if scheme != "http" && scheme != "https" {
		return "", "", fmt.Errorf("%q is not an http or https URL", text)
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	host, path = rest[:end], rest[end:]
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if u, err := url.Parse(scheme + "://" + host); err != nil || u.Host == "" {
		return "", "", fmt.Errorf("%q has no host", text)
	}
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		host = host[at+1:]
	}
	return host, path, nil
}

func headersOf(lines []string) (map[string]string, error) {
	headers := map[string]string{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is not a header: write name:value", line)
		}
		if before, twice := headers[name]; twice {
			value = before + "," + value // as Envoy joins them before it compares
		}
		headers[name] = value
	}
	return headers, nil
}

func askEdge(edge *ir.Edge, set *policy.Set, source *policy.Source, a *Answer, headers map[string]string) Edge {
	out := Edge{Edge: edge.Name, Listeners: []string{}, Earlier: []Missed{}, Guards: []Guard{}, Objectives: []string{}, Settings: []Setting{}}
	for _, l := range edge.Listeners {
		out.Listeners = append(out.Listeners, fmt.Sprintf("%s:%d", l.Address, l.Port))
	}
	host := ir.HostOf(*edge, a.Host)
	route := ir.MatchRoute(*edge, a.Method, a.Host, a.Path, headers)
	if host == nil || route == nil {
		out.Status = 404
		return out
	}
	out.Domain = domain(host, a.Host)
	bare, _, _ := strings.Cut(a.Path, "?")
	for i := range host.Routes {
		before := &host.Routes[i]
		if before == route {
			break
		}
		out.Earlier = append(out.Earlier, Missed{label(before), before.Match.Miss(a.Method, bare, headers)})
	}
	out.Service, out.Route, _ = strings.Cut(route.Name, "/")
	out.Status, out.Probe = route.DirectStatus, route.Probe
	if out.Service == "" && !route.Probe {
		out.Hint = hostHint(edge, host, a.Host)
	}
	if route.Cluster != "" {
		out.describe(set, source)
	}
	return out
}

// label is what to call a route that did not take a request.
func label(r *ir.Route) string {
	switch {
	case r.Probe:
		return "probe " + r.Match.Path.Value
	case strings.HasSuffix(r.Name, "/"):
		return r.Name + " (404)"
	}
	return r.Name
}

// domain is the one of a virtual host that takes the host.
func domain(v *ir.VirtualHost, authority string) string {
	for _, d := range v.Domains {
		if ir.HostOf(ir.Edge{VirtualHosts: []ir.VirtualHost{{Domains: []string{d}}}}, authority) != nil {
			return d
		}
	}
	return ""
}

func hostHint(edge *ir.Edge, v *ir.VirtualHost, authority string) string {
	if !slices.Contains(v.Domains, "*") {
		return "the host is known, but no service of it has this path"
	}
	var known []string
	for _, h := range edge.VirtualHosts {
		known = append(known, h.Domains...)
	}
	host, _, _ := strings.Cut(authority, ":")
	known = slices.DeleteFunc(known, func(d string) bool { return d == "*" })
	hint := "no service has this host"
	if near := diag.DidYouMean(host, known); near != "" {
		hint += "; " + near
	}
	return hint
}

// describe adds what the policies say about the route.
func (e *Edge) describe(set *policy.Set, source *policy.Source) {
	i := slices.IndexFunc(set.Policies, func(p policy.ResiliencePolicy) bool { return p.Spec.Service == e.Service })
	var class string
	if i >= 0 {
		p := &set.Policies[i]
		r := slices.IndexFunc(p.Spec.Routes, func(r policy.Route) bool { return r.Name == e.Route })
		if r < 0 {
			return
		}
		route := &p.Spec.Routes[r]
		class = route.Priority
		if p.Spec.Priority != nil && p.Spec.Priority.Trusted {
			class = "" // the client's choice
		}
		e.Place = place(route.Pos)
		e.Guards = guardsOf(&p.Spec, route)
		name := p.Metadata.Name
		e.add("", source.Values(policy.KindResiliencePolicy, name, fmt.Sprintf("spec.routes[%d]", r)), "name", "match")
		for _, part := range []string{"mode", "shedding", "priority", "synthetic", "retryBudget", "wrapUpstreamErrors"} {
			if part == "wrapUpstreamErrors" && route.WrapUpstreamErrors != nil || part == "retryBudget" && route.Retry == nil {
				continue
			}
			e.addPart(source.Values(policy.KindResiliencePolicy, name, "spec"), part)
		}
		if route.Pool != "" {
			e.add("pools."+route.Pool, source.Values(policy.KindResiliencePolicy, name, "spec.pools."+route.Pool))
		}
	} else if e.Route == compile.DefaultRoute {
		class = "medium"
		e.Hint = "the service has no ResiliencePolicy: it is served whole, without guards"
	}
	e.add("service", source.Values(policy.KindService, e.Service, "spec"), "hosts", "paths", "endpoints", "dns")
	for _, o := range set.SLOs {
		counts := o.Spec.Service == e.Service &&
			(len(o.Spec.Routes) == 0 || slices.Contains(o.Spec.Routes, e.Route)) &&
			(len(o.Spec.Priorities) == 0 || class == "" || slices.Contains(o.Spec.Priorities, class))
		if counts {
			e.Objectives = append(e.Objectives, o.Metadata.Name)
		}
	}
}

// add appends settings, but for those below the fields that are left out.
func (e *Edge) add(prefix string, values []policy.Value, without ...string) {
	for _, v := range values {
		first, _, _ := strings.Cut(v.Field, ".")
		if !slices.Contains(without, first) {
			e.setting(prefix, v)
		}
	}
}

func (e *Edge) addPart(values []policy.Value, part string) {
	for _, v := range values {
		if first, _, _ := strings.Cut(v.Field, "."); first == part {
			e.setting("", v)
		}
	}
}

func (e *Edge) setting(prefix string, v policy.Value) {
	s := Setting{Field: v.Field, Value: v.Text, Default: v.Default, Enforced: v.Enforced}
	if prefix != "" {
		s.Field = prefix + "." + v.Field
	}
	if !v.Default {
		s.Place = place(v.Pos)
	}
	e.Settings = append(e.Settings, s)
}

func place(p diag.Pos) *Place {
	if p.Line == 0 {
		return nil
	}
	return &Place{p.File, p.Line, p.Column}
}

// guardsOf lists a route's guards in the order in which a request meets them.
func guardsOf(p *policy.ResiliencePolicySpec, r *policy.Route) []Guard {
	guards := []Guard{}
	add := func(there bool, guard, name, schema string) {
		if !there {
			return
		}
		g := Guard{Guard: guard, Name: name, Acts: true}
		if p.Mode != policy.ModeEnforce {
			g.Acts, g.Why = false, "mode is "+p.Mode
		} else if about, _, _ := policy.Explain("ResiliencePolicy.spec." + schema); !about.Enforced {
			g.Acts, g.Why = false, "not enforced yet"
		}
		guards = append(guards, g)
	}
	add(r.Timeout.DeadlineHeader != "", "deadline", r.Timeout.DeadlineHeader, "routes.timeout.deadlineHeader")
	add(p.Shedding != nil, "shed", r.Priority, "shedding")
	add(r.Breaker != nil, "breaker", "", "routes.breaker")
	add(r.Pool != "", "pool", r.Pool, "routes.pool")
	add(r.Fallback != nil, "fallback", "", "routes.fallback")
	add(r.DeadLetter != nil, "dead-letter", queue(r.DeadLetter), "routes.deadLetter")
	// Envoy's own, whatever the mode.
	if r.Retry != nil {
		guards = append(guards, Guard{Guard: "retry", Acts: true})
	}
	return guards
}

func queue(d *policy.DeadLetter) string {
	if d == nil {
		return ""
	}
	return d.Queue
}
