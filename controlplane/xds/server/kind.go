package server

import (
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/seawall-mesh/seawall/controlplane/fleet"
)

// kind is an xDS resource type that is served here.
type kind int

// The kinds, in the order in which responses of one moment are sent.
const (
	cds kind = iota
	eds
	sds
	ecds
	lds
	rds
	kindCount
)

var kinds = [kindCount]struct {
	url  string
	name fleet.Kind
	// wildcard kinds are asked for without names.
	wildcard bool
}{
	cds:  {resource.ClusterType, fleet.CDS, true},
	eds:  {resource.EndpointType, fleet.EDS, false},
	sds:  {resource.SecretType, fleet.SDS, false},
	ecds: {resource.ExtensionConfigType, fleet.ECDS, false},
	lds:  {resource.ListenerType, fleet.LDS, true},
	rds:  {resource.RouteType, fleet.RDS, false},
}

func (k kind) String() string { return string(kinds[k].name) }

func kindOf(url string) (kind, bool) {
	for k := range kindCount {
		if kinds[k].url == url {
			return k, true
		}
	}
	return 0, false
}
