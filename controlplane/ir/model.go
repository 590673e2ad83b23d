package ir

import "slices"

// Model is a whole policy set, compiled: one Edge per kind of data plane.
type Model struct {
	PolicyHash string `json:"policyHash"` // policy.Set.Hash, 16 hex digits
	Edges      []Edge `json:"edges"`      // sorted by Name
}

// Edge is everything that one kind of data plane serves. Equal policies give
// equal Edges, whatever the order of files and documents.
type Edge struct {
	Name            string        `json:"name"`
	Nodes           NodeSelector  `json:"nodes"`
	ProblemTypeBase string        `json:"problemTypeBase"` // prefix of problem types, with its final slash
	HTTP            HTTP          `json:"http"`
	Listeners       []Listener    `json:"listeners"`    // sorted by Address, Port
	VirtualHosts    []VirtualHost `json:"virtualHosts"` // sorted by Name; exactly one has the domain "*"
	Clusters        []Cluster     `json:"clusters"`     // sorted by Name
	Filter          Filter        `json:"filter"`
}

// NodeSelector says which Envoys get an Edge. An empty member matches every
// node; both must match. A value may hold "*", which matches any run of
// characters, the empty one too.
type NodeSelector struct {
	Cluster string `json:"cluster,omitempty"` // of node.cluster
	ID      string `json:"id,omitempty"`      // of node.id
}

// HTTP holds what the listeners of an Edge have in common.
type HTTP struct {
	TrustedHops      uint32 `json:"trustedHops"`             // proxies before us whose X-Forwarded-For counts
	RequestTimeoutNS int64  `json:"requestTimeoutNs"`        // for a client to send its whole request; 0 = no limit
	ShorterBodies    bool   `json:"shorterBodies,omitempty"` // the filter gives the bodies of some routes less
	MaxBodyBytes     int64  `json:"maxBodyBytes,omitempty"`  // of a request; 0 = no limit
}

// Listener is a socket that clients connect to.
type Listener struct {
	Name    string `json:"name"`
	Address string `json:"address"` // an IP address
	Port    uint32 `json:"port"`    // 1 to 65535

	TLS *ListenerTLS `json:"tls,omitempty"` // nil = plain text
}

// ListenerTLS is the certificate that a listener shows, as files beside Envoy.
type ListenerTLS struct {
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
}

// VirtualHost is what is served under some domains. Of several virtual hosts
// the one with the most specific domain answers: exact, then the longest
// suffix "*.example.com", then "*". Of its routes the first match wins, and
// the last one matches everything.
type VirtualHost struct {
	Name    string   `json:"name"`
	Domains []string `json:"domains"` // lower case, without port, sorted
	Routes  []Route  `json:"routes"`
}

// Route sends what it matches to a cluster, or answers it with DirectStatus.
type Route struct {
	// Name is what the filter reads as xds.route_name: "service/route";
	// "service/" for a request to a service that none of its routes matches;
	// "" for one that belongs to no service.
	Name         string     `json:"name"`
	Match        RouteMatch `json:"match"`
	Cluster      string     `json:"cluster,omitempty"`      // "" = DirectStatus answers
	DirectStatus uint32     `json:"directStatus,omitempty"` // 0 = Cluster answers

	TimeoutNS       int64  `json:"timeoutNs"`       // whole request over all tries, from its last byte in; 0 = no limit
	IdleTimeoutNS   int64  `json:"idleTimeoutNs"`   // stream without a byte in either direction; 0 = no limit
	PerTryTimeoutNS int64  `json:"perTryTimeoutNs"` // one try; 0 = no limit of its own
	Retry           *Retry `json:"retry,omitempty"`

	// GRPCTimeout says that a try's grpc-timeout, where the request has one, is
	// the time that is left for it.
	GRPCTimeout bool         `json:"grpcTimeout,omitempty"`
	Upgrades    []string     `json:"upgrades,omitempty"`    // protocols that a request may switch to, sorted
	AnyBody     bool         `json:"anyBody,omitempty"`     // MaxBodyBytes does not hold: what it sends is a stream
	RewriteHost string       `json:"rewriteHost,omitempty"` // :authority for the upstream; "" = the client's
	Rewrite     *PathRewrite `json:"rewrite,omitempty"`
	// Probe routes are answered by Envoy's health check: DirectStatus, or 503
	// while it drains. The filter does not see them.
	Probe      bool `json:"probe,omitempty"`
	GRPC       bool `json:"grpc,omitempty"`       // the upstream speaks gRPC
	WrapErrors bool `json:"wrapErrors,omitempty"` // 5xx answers of the upstream's that are no problem document become one
}

// PathRewrite replaces a whole-segment prefix of the path for the upstream.
type PathRewrite struct {
	From string `json:"from"` // "/", or without a final slash
	To   string `json:"to"`   // the same
}

// RouteMatch says which requests a Route takes. All members must hold.
type RouteMatch struct {
	Methods []string      `json:"methods,omitempty"` // sorted; empty = all
	Path    Path          `json:"path"`
	Within  string        `json:"within,omitempty"`  // whole-segment prefix that must hold besides Path; "" = none
	Headers []HeaderMatch `json:"headers,omitempty"` // sorted by Name
}

// PathKind says how Path.Value is compared with the request's normalised path
// without its query.
type PathKind string

// The kinds of Path.
const (
	PathPrefix   PathKind = "prefix"   // whole segments: /a takes /a and /a/b, not /ab
	PathExact    PathKind = "exact"    // the same bytes
	PathTemplate PathKind = "template" // /users/{id}: each {…} is one non-empty segment
	PathRegex    PathKind = "regex"    // RE2, over the whole path
)

// Path is the path part of a RouteMatch.
type Path struct {
	Kind  PathKind `json:"kind"`
	Value string   `json:"value"`
}

// HeaderKind says how a HeaderMatch compares.
type HeaderKind string

// The kinds of HeaderMatch. All but HeaderAbsent need the header.
const (
	HeaderExact   HeaderKind = "exact"
	HeaderPrefix  HeaderKind = "prefix"
	HeaderRegex   HeaderKind = "regex" // RE2, over the whole value
	HeaderPresent HeaderKind = "present"
	HeaderAbsent  HeaderKind = "absent"
)

// HeaderMatch compares one request header; several values of one name are
// joined with a comma first, as Envoy does.
type HeaderMatch struct {
	Name  string     `json:"name"` // lower case
	Kind  HeaderKind `json:"kind"`
	Value string     `json:"value,omitempty"`
}

// Retry is Envoy's own retry of a request.
type Retry struct {
	Retries         uint32   `json:"retries"`                   // after the first try, ≥ 1
	Resets          bool     `json:"resets,omitempty"`          // upstream resets and per-try timeouts (Envoy cannot tell them apart)
	ConnectFailures bool     `json:"connectFailures,omitempty"` // no connection to the upstream
	Statuses        []uint32 `json:"statuses,omitempty"`        // the upstream's answers, sorted
	BaseNS          int64    `json:"baseNs"`                    // try i waits a random time up to (2^i − 1) × base
	MaxNS           int64    `json:"maxNs"`                     // cap of that
	RetryAfterMaxNS int64    `json:"retryAfterMaxNs,omitempty"` // a Retry-After up to this is waited for, a longer one ends the tries; 0 = it is not looked at
	Methods         []string `json:"methods,omitempty"`         // that are tried again, sorted
	KeyHeader       string   `json:"keyHeader,omitempty"`       // requests that have something in it are tried again whatever their method; "" = none are
	GRPC            []string `json:"grpc,omitempty"`            // grpc-status of the upstream's answers, in Envoy's words, sorted
}

// Repeats reports whether a failed request with this method is tried again;
// keyed says that it carries KeyHeader.
func (r *Retry) Repeats(method string, keyed bool) bool {
	return r != nil && (slices.Contains(r.Methods, method) || keyed && r.KeyHeader != "")
}

// Protocol is what a cluster's upstreams speak.
type Protocol string

// The protocols of a Cluster.
const (
	HTTP1 Protocol = "http1"
	HTTP2 Protocol = "http2" // gRPC too
)

// Cluster is a service's upstreams.
type Cluster struct {
	Name             string     `json:"name"`
	DNS              bool       `json:"dns,omitempty"` // endpoints are names, resolved by Envoy; else IP addresses
	Endpoints        []Endpoint `json:"endpoints"`     // sorted by Address, Port
	Protocol         Protocol   `json:"protocol"`
	ConnectTimeoutNS int64      `json:"connectTimeoutNs"`
	MaxConnections   uint32     `json:"maxConnections"` // per Envoy, a backstop

	RetryBudget RetryBudget `json:"retryBudget"`
	Outlier     *Outlier    `json:"outlier,omitempty"`
	Attempts    bool        `json:"attempts,omitempty"` // the filter sees each try, in its attempt role

	TLS         *UpstreamTLS `json:"tls,omitempty"` // nil = plain text
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`
}

// UpstreamTLS is TLS towards a cluster, always verified.
type UpstreamTLS struct {
	CAFile     string `json:"caFile"`     // PEM, beside Envoy
	ServerName string `json:"serverName"` // SNI, and what the certificate must name
}

// HealthCheck asks each upstream whether it is well.
type HealthCheck struct {
	Path       string `json:"path"`
	Host       string `json:"host,omitempty"` // :authority; "" = the cluster's name
	IntervalNS int64  `json:"intervalNs"`
	GRPC       bool   `json:"grpc,omitempty"` // by grpc.health.v1, of the service that Path names
}

// Endpoint is one upstream, or the name that stands for several.
type Endpoint struct {
	Address string `json:"address"`
	Port    uint32 `json:"port"`
}

// RetryBudget bounds the retries of a cluster that run at once.
type RetryBudget struct {
	PercentPPM     int64  `json:"percentPpm"`     // of the requests that run at once
	MinConcurrency uint32 `json:"minConcurrency"` // so many are always allowed
}

// Outlier ejects upstreams that keep failing.
type Outlier struct {
	Consecutive5xx uint32 `json:"consecutive5xx"` // connect failures, resets and timeouts included
	BaseEjectionNS int64  `json:"baseEjectionNs"` // grows with each ejection of the same endpoint
	MaxEjectedPPM  int64  `json:"maxEjectedPpm"`  // of the cluster's endpoints; a single endpoint is never ejected
}

// Filter is what the Wasm filter of an Edge gets.
type Filter struct {
	PlanJSON []byte `json:"-"`        // contract.Plan
	PlanHash string `json:"planHash"` // its Hash

	// SafeJSON is the plan of a node that has never accepted one: no guards,
	// everything admitted and counted. It does not depend on services, routes
	// and objectives, so that editing those leaves listeners untouched.
	SafeJSON []byte `json:"-"`
}
