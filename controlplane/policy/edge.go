package policy

// The two failure modes of an Edge.
const (
	FailureModeOpen   = "open"
	FailureModeClosed = "closed"
)

// EdgeSpec is the spec of an Edge.
type EdgeSpec struct {
	// Listeners are the addresses that the edge serves on; at least one.
	Listeners []Listener `json:"listeners" policy:"required"`
	// Nodes selects the Envoys that get this edge; empty = all.
	Nodes NodeSelector `json:"nodes"`
	// Services are the names of the services it serves; empty = all.
	Services []string `json:"services,omitempty" policy:"format=label"`
	// FailureMode is what a recovered panic of the filter does to its request:
	// "open" lets it pass (the default), "closed" answers 500.
	FailureMode string `json:"failureMode" policy:"enum=open|closed"`
	// TrustedHops is the number of proxies before us whose X-Forwarded-For
	// counts, 0 to 16; default 0.
	TrustedHops int `json:"trustedHops" policy:"min=0,max=16"`
	// MaxBody is the largest request body in bytes, above it 413; 0 = no limit
	// (the default). It does not hold for routes with upgrades, and for gRPC
	// routes whose timeout.request is 0.
	MaxBody ByteSize `json:"maxBody,omitempty" policy:"min=1B"`
	// Probes are paths that the edge answers itself on any host: 200, and 503
	// while it drains. They are never shed and in no SLI.
	Probes []string `json:"probes,omitempty" policy:"format=path"`
}

// Listener is one address of an Edge.
type Listener struct {
	// Address is an IP address; default 127.0.0.1.
	Address string `json:"address" policy:"format=ip"`
	// Port is 1 to 65535.
	Port int          `json:"port" policy:"required,min=1,max=65535"`
	TLS  *ListenerTLS `json:"tls,omitempty"`
}

// ListenerTLS is the certificate that a listener shows: PEM files beside the
// Envoy, relative names being taken from the policy file's folder. Envoy
// takes new ones once they are renamed into place, as cert-manager and
// Kubernetes do it; connections keep the one that they began with.
type ListenerTLS struct {
	// CertFile is the certificate, followed by its chain.
	CertFile string `json:"certFile" policy:"required"`
	// KeyFile is its private key.
	KeyFile string `json:"keyFile" policy:"required"`
}

// NodeSelector matches an Envoy by node.cluster and node.id; an empty member
// matches any.
type NodeSelector struct {
	// Cluster is compared with node.cluster; * in it takes any run of characters.
	Cluster string `json:"cluster,omitempty" policy:"nonempty"`
	// ID is compared with node.id in the same way.
	ID string `json:"id,omitempty" policy:"nonempty"`
}
