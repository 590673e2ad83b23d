package api

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/seawall-mesh/seawall/controlplane/alert"
	"github.com/seawall-mesh/seawall/controlplane/fleet"
	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/controlplane/telemetry"
)

// param is a query parameter of an endpoint.
type param struct{ name, doc, kind string }

// The parameters that endpoints share.
var (
	paramLimit   = param{"limit", fmt.Sprintf("Largest number of items in the answer, 1 to %d (the default).", MaxLimit), "integer"}
	paramCursor  = param{"cursor", "The next of the page before.", "string"}
	paramWindow  = param{"window", "How far back, 1m to 90d; 5m by default. Whole minutes and the current one.", "string"}
	paramService = param{"service", "Only this service.", "string"}
)

func paramNames(ps []param) string {
	if len(ps) == 0 {
		return "none"
	}
	names := make([]string, len(ps))
	for i, p := range ps {
		names[i] = p.name
	}
	return strings.Join(names, ", ")
}

// endpoint is one row of the API: what is served, and what OpenAPI says of it.
type endpoint struct {
	method  string // "" = GET, and HEAD
	path    string // below /api/v1
	id      string
	summary string
	params  []param // of the query
	body    any     // a value of the request body's type, for the schema; nil = none
	answer  any     // a value of the answer's type, for the schema; nil = 204
	tagged  bool    // the answer has an ETag
	handle  func(r *http.Request, q query) (any, error)
}

// endpoints is the table that both the mux and the OpenAPI document are made
// from, so that neither can know one that the other does not.
func (s *Server) endpoints() []endpoint {
	src := s.cfg.Source
	return append([]endpoint{
		{
			path: "/status", id: "getStatus", summary: "The control plane in one look.", answer: Status{},
			handle: func(*http.Request, query) (any, error) { return s.status(), nil },
		},
		{
			path: "/policy", id: "listPolicies", summary: "The policies in force, defaults filled in.",
			params: []param{paramLimit, paramCursor}, answer: List[PolicyObject]{},
			handle: func(_ *http.Request, q query) (any, error) {
				return paginate(q, policyObjects(src.Policy()), func(o PolicyObject) string { return sortKey(o.Kind, o.Metadata.Name) }), nil
			},
		},
		{
			path: "/policy/diagnostics", id: "listDiagnostics", summary: "The findings of the last load, if it was refused; empty if it was accepted.",
			params: []param{paramLimit, paramCursor}, answer: List[Finding]{},
			handle: func(_ *http.Request, q query) (any, error) {
				return paginate(q, findings(src.Diagnostics()), func(f Finding) string {
					return sortKey(f.File, fmt.Sprintf("%08d:%08d", f.Line, f.Column), f.Code, f.Path, f.Message)
				}), nil
			},
		},
		{
			path: "/nodes", id: "listNodes", summary: "The Envoys that are or were connected, and what each really runs.",
			params: []param{paramLimit, paramCursor}, answer: List[fleet.Node]{},
			handle: func(_ *http.Request, q query) (any, error) {
				return paginate(q, src.Nodes(), func(n fleet.Node) string { return n.ID }), nil
			},
		},
		{
			path: "/breakers", id: "listBreakers", summary: "Every breaker on every node.",
			params: []param{paramService, paramLimit, paramCursor}, answer: List[telemetry.Breaker]{},
			handle: func(_ *http.Request, q query) (any, error) {
				items := ofService(q, src.Breakers(), func(b telemetry.Breaker) string { return b.Service })
				return paginate(q, items, func(b telemetry.Breaker) string { return sortKey(b.Service, b.Route, b.Node) }), nil
			},
		},
		{
			path: "/pools", id: "listPools", summary: "Every bulkhead pool on every node: who holds and who waits.",
			params: []param{paramService, paramLimit, paramCursor}, answer: List[telemetry.Pool]{},
			handle: func(_ *http.Request, q query) (any, error) {
				items := ofService(q, src.Pools(), func(p telemetry.Pool) string { return p.Service })
				return paginate(q, items, func(p telemetry.Pool) string { return sortKey(p.Service, p.Pool, p.Node) }), nil
			},
		},
		{
			path: "/traffic", id: "listTraffic", summary: "What happened to the requests of each service, route and priority.",
			params: []param{paramWindow, paramService, paramLimit, paramCursor}, answer: List[telemetry.TrafficRow]{},
			handle: func(r *http.Request, q query) (any, error) {
				rows, err := src.Traffic(r.Context(), q.window)
				if err != nil {
					return nil, fmt.Errorf("traffic: %w", err)
				}
				rows = ofService(q, rows, func(t telemetry.TrafficRow) string { return t.Service })
				return paginate(q, rows, func(t telemetry.TrafficRow) string { return sortKey(t.Service, t.Route, t.Priority) }), nil
			},
		},
		{
			path: "/slos", id: "listSLOs", summary: "The objectives with their error budgets and burn rates.",
			params: []param{paramService, paramLimit, paramCursor}, answer: List[slo.Status]{},
			handle: func(r *http.Request, q query) (any, error) {
				slos, err := src.SLOs(r.Context())
				if err != nil {
					return nil, fmt.Errorf("slos: %w", err)
				}
				slos = ofService(q, slos, func(o slo.Status) string { return o.Service })
				return paginate(q, slos, func(o slo.Status) string { return o.Name }), nil
			},
		},
		{
			path: "/alerts", id: "listAlerts", summary: "What is alerted: pending, firing, and resolved in the last quarter of an hour.",
			params: []param{paramService, paramLimit, paramCursor}, answer: List[alert.Alert]{},
			handle: func(_ *http.Request, q query) (any, error) {
				items := ofService(q, src.Alerts(), func(a alert.Alert) string { return a.Labels[alert.LabelService] })
				return paginate(q, items, alert.Alert.Key), nil
			},
		},
		{
			path: "/problems", id: "listProblemTypes", summary: "The registry of problem types, of this API and of the data plane.",
			params: []param{paramLimit, paramCursor}, answer: List[ProblemType]{},
			handle: func(_ *http.Request, q query) (any, error) {
				return paginate(q, listedProblemTypes(s.cfg.ProblemTypeBase), func(t ProblemType) string { return t.Slug }), nil
			},
		},
	}, slices.Concat(s.overrideEndpoints(), s.releaseEndpoints())...)
}

// status completes the Source's summary with what this package knows.
func (s *Server) status() Status {
	st := s.cfg.Source.Status()
	st.Ready = s.cfg.Ready()
	st.Refused = nil
	if load := s.cfg.Source.Diagnostics(); load != nil {
		st.Refused = &Refusal{At: load.At.UTC()}
		st.Refused.Errors, st.Refused.Warnings = load.Findings.Count()
	}
	return st
}

func ofService[T any](q query, items []T, service func(T) string) []T {
	if q.service == "" {
		return items
	}
	var kept []T
	for _, it := range items {
		if service(it) == q.service {
			kept = append(kept, it)
		}
	}
	return kept
}

// routes is every path of the admin address.
func (s *Server) routes() (*http.ServeMux, error) {
	mux := http.NewServeMux()
	byPath := map[string]methods{}
	for _, e := range s.endpoints() {
		at := byPath[e.path]
		if at == nil {
			at = methods{}
			byPath[e.path] = at
		}
		at[cmp.Or(e.method, http.MethodGet)] = s.serveJSON(e)
	}
	for path, at := range byPath {
		mux.Handle("/api/v1"+path, s.only(at))
	}
	document, err := openAPI(s.endpoints())
	if err != nil {
		return nil, err
	}
	mux.Handle("/api/v1/openapi.json", s.reads(func(w http.ResponseWriter, _ *http.Request) error {
		return send(w, "application/json", document)
	}))
	mux.Handle("/healthz", s.reads(func(w http.ResponseWriter, _ *http.Request) error {
		return send(w, "text/plain; charset=utf-8", []byte("ok\n"))
	}))
	mux.Handle("/readyz", s.reads(func(w http.ResponseWriter, _ *http.Request) error {
		if !s.cfg.Ready() {
			return problemf(typeNotReady, "no accepted policy has been served yet")
		}
		return send(w, "text/plain; charset=utf-8", []byte("ok\n"))
	}))
	if s.cfg.Metrics != nil {
		mux.Handle("/metrics", s.reads(func(w http.ResponseWriter, r *http.Request) error {
			s.cfg.Metrics.ServeHTTP(w, r)
			return nil
		}))
	}
	if err := s.pages(mux); err != nil {
		return nil, err
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.problems.write(w, r, problemf(typeNotFound, "there is nothing at %q", shorten(r.URL.Path, 200)))
	})
	return mux, nil
}

// methods are the handlers of one path.
type methods map[string]func(http.ResponseWriter, *http.Request) error

// reads serves GET and HEAD, and maps what h returns as error.
func (s *Server) reads(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return s.only(methods{http.MethodGet: h})
}

// only serves the methods that a path has; HEAD is GET's.
func (s *Server) only(at methods) http.Handler {
	allowed := slices.Sorted(maps.Keys(at))
	if at[http.MethodGet] != nil {
		at[http.MethodHead] = at[http.MethodGet]
		allowed = append(allowed, http.MethodHead)
		slices.Sort(allowed)
	}
	allow := strings.Join(allowed, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := at[r.Method]
		if h == nil {
			w.Header().Set("Allow", allow)
			s.problems.write(w, r, problemf(typeMethodNotAllowed, "%s takes %s, not %s", shorten(r.URL.Path, 200), allow, shorten(r.Method, 20)))
			return
		}
		if err := h(w, r); err != nil {
			s.problems.write(w, r, err)
		}
	})
}

func (s *Server) serveJSON(e endpoint) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		values, err := parseRawQuery(r.URL.RawQuery)
		if err != nil {
			return err
		}
		q, err := parseQuery(values, e.params)
		if err != nil {
			return err
		}
		value, err := e.handle(r, q)
		if err != nil {
			return err
		}
		return answer(w, e, value)
	}
}

// send answers 200 with body.
func send(w http.ResponseWriter, contentType string, body []byte) error {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	// The client may be gone; there is nobody left to tell.
	_, _ = w.Write(body)
	return nil
}
