package policy

// The protocols towards a service.
const (
	ProtocolHTTP1 = "http1"
	ProtocolHTTP2 = "http2"
	ProtocolGRPC  = "grpc"
)

// SystemCA is the ServiceTLS.CA that means what the system of the Envoy trusts.
const SystemCA = "system"

// ServiceSpec is the spec of a Service.
type ServiceSpec struct {
	// Hosts are the :authority names it answers to, port ignored, in lower
	// case; "*" = any.
	Hosts []string `json:"hosts" policy:"required,format=host"`
	// Paths are prefixes by whole segments; the longest wins over all services
	// that share a host. Default ["/"].
	Paths []string `json:"paths" policy:"nonempty,format=prefix"`
	// Endpoints are its addresses. Exactly one of Endpoints and DNS is given.
	Endpoints []Endpoint `json:"endpoints,omitempty" policy:"nonempty"`
	DNS       *DNS       `json:"dns,omitempty"`
	// Protocol is http1 (the default), http2 or grpc.
	Protocol string `json:"protocol" policy:"enum=http1|http2|grpc"`
	// TLS towards the service; nil = plain text.
	TLS *ServiceTLS `json:"tls,omitempty"`
	// ConnectTimeout is the limit for a TCP connection; default 2s.
	ConnectTimeout Duration    `json:"connectTimeout" policy:"min=1ms,max=10m"`
	Connections    Connections `json:"connections"`
	// OutlierEjection takes failing endpoints out; nil = never.
	OutlierEjection *OutlierEjection `json:"outlierEjection,omitempty"`
	HealthCheck     *HealthCheck     `json:"healthCheck,omitempty"`
	Rewrite         *Rewrite         `json:"rewrite,omitempty"`
}

// Endpoint is one address of a service.
type Endpoint struct {
	// Address is an IP address.
	Address string `json:"address" policy:"required,format=ip"`
	// Port is 1 to 65535.
	Port int `json:"port" policy:"required,min=1,max=65535"`
}

// DNS names a service by a host name that Envoy resolves.
type DNS struct {
	// Name is a host name, resolved by Envoy.
	Name string `json:"name" policy:"required,format=dnsname"`
	// Port is 1 to 65535.
	Port int `json:"port" policy:"required,min=1,max=65535"`
}

// ServiceTLS is TLS towards a service. Verification cannot be switched off.
type ServiceTLS struct {
	// CA is "system" (the default), which is /etc/ssl/certs/ca-certificates.crt
	// on the machine of the Envoy, or another PEM file there; a relative
	// name is taken from the policy file's folder. Envoy takes a new one once it
	// is renamed into place.
	CA string `json:"ca" policy:"nonempty"`
	// ServerName is what the certificate must name, and the SNI.
	ServerName string `json:"serverName" policy:"required,format=dnsname"`
}

// Connections bounds the connections of one Envoy to a service: a backstop,
// not a bulkhead.
type Connections struct {
	// Max is 1 to 1,000,000; default 1000.
	Max int `json:"max" policy:"min=1,max=1000000"`
}

// OutlierEjection takes an endpoint out for a while when it fails.
type OutlierEjection struct {
	// Consecutive5xx is the run of 5xx that ejects an endpoint; default 5.
	Consecutive5xx int `json:"consecutive5xx" policy:"min=1,max=1000000"`
	// BaseEjection is the time of a first ejection; default 30s.
	BaseEjection Duration `json:"baseEjection" policy:"min=1ms,max=24h"`
	// MaxEjected is the share of endpoints that may be out at once; default 50%.
	MaxEjected Ratio `json:"maxEjected" policy:"min=1%,max=100%"`
}

// HealthCheck asks each endpoint whether it is well.
type HealthCheck struct {
	// Path is asked with GET, and must be answered 200; with protocol grpc it
	// names the service that grpc.health.v1 is asked about, "/" being the server.
	Path string `json:"path" policy:"required,format=path"`
	// Interval is the time between two checks; default 5s.
	Interval Duration `json:"interval" policy:"min=100ms,max=1h"`
}

// Rewrite changes what the service sees of the request.
type Rewrite struct {
	// Host replaces :authority.
	Host string `json:"host,omitempty" policy:"format=dnsname"`
	// Prefix replaces that of the service's paths which the request is under.
	Prefix string `json:"prefix,omitempty" policy:"format=prefix"`
}
