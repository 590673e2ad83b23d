package translate

import (
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// AttemptName is the filter in a cluster's chain, and its plugin and root_id.
const AttemptName = "seawall-attempt"

// attemptFilter is the filter's second role: it sees each try. What makes up
// the VM's identity is the same as in the listeners, so both run in one VM. Its
// configuration says only which role it is: a push of a plan leaves clusters
// alone. A new module, or a new vm_id, makes them anew.
func (b *builder) attemptFilter() *hcmv3.HttpFilter {
	vmID := b.module.VMID
	if vmID == "" {
		vmID = VMID
	}
	filter := b.wasm(vmID, "", nil)
	filter.Config.Name, filter.Config.RootId = AttemptName, AttemptName
	filter.Config.Configuration = b.pack(wrapperspb.String(contract.AttemptConfig))
	return &hcmv3.HttpFilter{
		Name:       AttemptName,
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: b.pack(filter)},
	}
}
