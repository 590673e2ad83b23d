package translate_test

import "github.com/seawall-mesh/seawall/controlplane/ir"

const second = int64(1_000_000_000)

func prefix(p string) ir.RouteMatch {
	return ir.RouteMatch{Path: ir.Path{Kind: ir.PathPrefix, Value: p}}
}

// shop is an edge with one service that shows most of what an Edge can say.
// Its ports are those of the caller.
func shop(listen, upstream, closed uint32) ir.Edge {
	endpoint := func(port uint32) []ir.Endpoint { return []ir.Endpoint{{Address: "127.0.0.1", Port: port}} }
	budget := ir.RetryBudget{PercentPPM: 200_000, MinConcurrency: 3}
	cluster := func(name string, port uint32) ir.Cluster {
		return ir.Cluster{
			Name: name, Endpoints: endpoint(port), Protocol: ir.HTTP1,
			ConnectTimeoutNS: second, MaxConnections: 100, RetryBudget: budget,
		}
	}
	retry := &ir.Retry{
		Retries: 2, Resets: true, ConnectFailures: true, Statuses: []uint32{503},
		BaseNS: 10_000_000, MaxNS: 50_000_000, RetryAfterMaxNS: 2 * second,
	}
	route := func(name, cluster string, m ir.RouteMatch) ir.Route {
		return ir.Route{Name: name, Match: m, Cluster: cluster, TimeoutNS: second / 2, IdleTimeoutNS: 60 * second}
	}
	retrying := route("payments/retry", "payments", prefix("/retry"))
	retrying.Match.Methods = []string{"GET", "HEAD"}
	retrying.Retry = retry
	once := route("payments/retry", "payments", prefix("/retry"))

	template := ir.RouteMatch{Path: ir.Path{Kind: ir.PathTemplate, Value: "/users/{id}/cards"}}
	within := ir.RouteMatch{Path: ir.Path{Kind: ir.PathRegex, Value: `/v[0-9]+/.*`}, Within: "/v1"}
	beta := prefix("/beta")
	beta.Headers = []ir.HeaderMatch{
		{Name: "x-off", Kind: ir.HeaderAbsent},
		{Name: "x-ring", Kind: ir.HeaderRegex, Value: "(beta|gamma)"},
	}
	outlying := cluster("payments", upstream)
	outlying.Outlier = &ir.Outlier{Consecutive5xx: 5, BaseEjectionNS: 30 * second, MaxEjectedPPM: 500_000}
	return ir.Edge{
		Name:            "shop",
		ProblemTypeBase: "https://seawall-mesh.github.io/problems/",
		HTTP:            ir.HTTP{RequestTimeoutNS: 300 * second},
		Listeners:       []ir.Listener{{Name: "shop", Address: "127.0.0.1", Port: listen}},
		VirtualHosts: []ir.VirtualHost{
			{Name: "*", Domains: []string{"*"}, Routes: []ir.Route{{Match: prefix("/"), DirectStatus: 404}}},
			{Name: "*.shop.local", Domains: []string{"*.shop.local"}, Routes: []ir.Route{route("wide/default", "payments", prefix("/"))}},
			{Name: "payments.local", Domains: []string{"payments.local"}, Routes: []ir.Route{
				retrying, once,
				route("payments/users", "payments", template),
				route("payments/v1", "payments", within),
				route("payments/beta", "payments", beta),
				route("payments/exact", "payments", ir.RouteMatch{Path: ir.Path{Kind: ir.PathExact, Value: "/exact"}}),
				route("payments/slow", "payments", prefix("/slow")),
				route("payments/broken", "payments", prefix("/broken")),
				route("down/all", "down", prefix("/down")),
				{Name: "payments/", Match: prefix("/"), DirectStatus: 404},
			}},
		},
		Clusters: []ir.Cluster{cluster("down", closed), outlying},
		Filter: ir.Filter{
			PlanJSON: []byte(`{"schema":1,"hash":"0123456789abcdef","edge":"shop","failureMode":"open","problemTypeBase":"https://seawall-mesh.github.io/problems/","latencyBoundsUs":[1000,1000000],"telemetry":{"cluster":"seawall-telemetry","authority":"seawall-telemetry","path":"/v1/batches"},"routes":[{"name":"payments/retry","service":"payments","route":"retry","priority":"medium"}]}`),
			PlanHash: "0123456789abcdef",
			SafeJSON: []byte(`{"schema":1,"hash":"fedcba9876543210","edge":"shop","failureMode":"open","problemTypeBase":"https://seawall-mesh.github.io/problems/","latencyBoundsUs":[1000],"telemetry":{"cluster":"seawall-telemetry","authority":"seawall-telemetry","path":"/v1/batches"},"routes":[]}`),
		},
	}
}
