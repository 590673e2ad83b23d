package policy

import "strings"

// Where a field acts.
const (
	PlaceEnvoy        = "envoy"         // a feature of Envoy's own
	PlaceFilter       = "filter"        // the Wasm filter in Envoy
	PlaceControlPlane = "control plane" // never reaches Envoy
)

// Place is where a field acts, and as what: Envoy's field, or what the filter
// or the control plane does with it.
type Place struct {
	Where string `json:"where"`
	As    string `json:"as"`
}

// places says for every field that is enforced where it acts. A field without a
// line of its own acts with the nearest field above that has one
// (TestEveryFieldIsExplained). Envoy's fields are named by their message.
var places = buildPlaces()

func buildPlaces() map[string][]Place {
	table := map[string][]Place{}
	add := func(where, path, as string) { table[path] = append(table[path], Place{where, as}) }
	envoy := func(path, as string) { add(PlaceEnvoy, path, as) }
	filter := func(path, as string) { add(PlaceFilter, path, as) }
	control := func(path, as string) { add(PlaceControlPlane, path, as) }

	for _, kind := range kindNames() {
		control(kind+".apiVersion", "says how the document is read")
		control(kind+".kind", "says how the document is read")
		control(kind+".metadata", "names the object")
	}

	envoy("Edge.spec", "what one kind of Envoy serves")
	envoy("Edge.spec.listeners", "Listener")
	envoy("Edge.spec.listeners.address", "Listener.address")
	envoy("Edge.spec.listeners.port", "Listener.address")
	envoy("Edge.spec.listeners.tls", "DownstreamTlsContext (ALPN h2, http/1.1), with a Secret over SDS whose files Envoy follows")
	control("Edge.spec.nodes", "which Envoys are sent the edge, by node.cluster and node.id")
	envoy("Edge.spec.services", "VirtualHost, one for each host")
	filter("Edge.spec.failureMode", "what becomes of a request whose callback panics")
	envoy("Edge.spec.trustedHops", "HttpConnectionManager.xff_num_trusted_hops; above 0 also preserve_external_request_id")
	envoy("Edge.spec.maxBody", "filter envoy.filters.http.body_size_limit, behind Seawall's: content-length first, then what comes")
	envoy("Edge.spec.probes", "routes of every VirtualHost on which envoy.filters.http.health_check answers and Seawall's filter is off")

	envoy("Service.spec", "Cluster, and its routes")
	envoy("Service.spec.hosts", "VirtualHost.domains")
	envoy("Service.spec.paths", "RouteMatch.path_separated_prefix")
	envoy("Service.spec.endpoints", "ClusterLoadAssignment, by EDS")
	envoy("Service.spec.dns", "Cluster.type STRICT_DNS")
	envoy("Service.spec.protocol", "HttpProtocolOptions.explicit_http_config of the Cluster")
	filter("Service.spec.protocol", "grpc: grpc-timeout is heeded, and outcomes follow grpc-status")
	envoy("Service.spec.tls", "UpstreamTlsContext of the Cluster")
	envoy("Service.spec.tls.ca", "CertificateValidationContext.trusted_ca of a Secret over SDS, whose file Envoy follows")
	envoy("Service.spec.tls.serverName", "UpstreamTlsContext.sni, and CertificateValidationContext.match_typed_subject_alt_names (DNS, exact)")
	envoy("Service.spec.connectTimeout", "Cluster.connect_timeout")
	envoy("Service.spec.connections", "CircuitBreakers.Thresholds.max_connections and max_pending_requests of the Cluster")
	envoy("Service.spec.outlierEjection", "Cluster.outlier_detection")
	envoy("Service.spec.outlierEjection.consecutive5xx", "OutlierDetection.consecutive_5xx")
	envoy("Service.spec.outlierEjection.baseEjection", "OutlierDetection.base_ejection_time")
	envoy("Service.spec.outlierEjection.maxEjected", "OutlierDetection.max_ejection_percent")
	envoy("Service.spec.healthCheck", "HealthCheck of the Cluster: out after 3 failures, back after 2 successes")
	envoy("Service.spec.healthCheck.path", "HttpHealthCheck.path; with protocol grpc GrpcHealthCheck.service_name")
	envoy("Service.spec.healthCheck.interval", "HealthCheck.interval and no_traffic_interval")
	envoy("Service.spec.rewrite", "RouteAction")
	envoy("Service.spec.rewrite.host", "RouteAction.host_rewrite_literal")
	envoy("Service.spec.rewrite.prefix", "RouteAction.regex_rewrite, anchored at the service's path")

	const p = "ResiliencePolicy.spec."
	control("ResiliencePolicy.spec", "compiled to Envoy's routes and the filter's plan")
	control(p+"service", "names the service whose routes these are")
	filter(p+"mode", "the plan has the guards, or not")
	filter(p+"pools", "bulkhead, exact over all workers of an Envoy")
	envoy(p+"retryBudget", "CircuitBreakers.Thresholds.retry_budget of the Cluster")
	envoy(p+"wrapUpstreamErrors", "filters custom_response and header_to_metadata, and local_reply_config")

	const r = p + "routes."
	envoy(p+"routes", "Route, in this order")
	envoy(r+"name", "Route.name: service/route")
	filter(r+"name", "the route of the plan, by xds.route_name")
	envoy(r+"match", "RouteMatch")
	envoy(r+"match.methods", "RouteMatch.headers on :method")
	envoy(r+"match.path.exact", "RouteMatch.path")
	envoy(r+"match.path.prefix", "RouteMatch.path_separated_prefix")
	envoy(r+"match.path.template", "RouteMatch.safe_regex, with one segment for each name")
	envoy(r+"match.path.regex", "RouteMatch.safe_regex")
	envoy(r+"match.headers", "RouteMatch.headers")
	filter(r+"priority", "order of a pool's queue, and a column of telemetry")
	envoy(r+"timeout", "RouteAction")
	envoy(r+"timeout.request", "RouteAction.timeout; x-seawall-deadline-ms of each try")
	filter(r+"timeout.request", "bounds the wait for a pool's permit too, and shortens Envoy's by x-envoy-upstream-rq-timeout-ms")
	envoy(r+"timeout.perTry", "RetryPolicy.per_try_timeout")
	envoy(r+"timeout.body", "HttpConnectionManager.request_timeout, one for all routes of an edge, the longest; the filter sees to shorter ones")
	envoy(r+"timeout.idle", "RouteAction.idle_timeout")
	filter(r+"timeout.deadlineHeader", "read from the request; shortens Envoy's timeout by x-envoy-upstream-rq-timeout-ms")
	filter(r+"deadlineHeader", "as timeout.deadlineHeader")
	envoy(r+"upgrades", "RouteAction.upgrade_configs")
	control(r+"cascade", "checked when the policy is loaded")
	envoy(r+"retry", "RetryPolicy, with previous_hosts as retry_host_predicate")
	envoy(r+"retry.attempts", "RetryPolicy.num_retries, one less")
	envoy(r+"retry.retryOn", "RetryPolicy.retry_on and retriable_status_codes")
	envoy(r+"retry.backoff", "RetryPolicy.retry_back_off: full jitter")
	envoy(r+"retry.backoff.base", "RetryBackOff.base_interval")
	envoy(r+"retry.backoff.max", "RetryBackOff.max_interval")
	envoy(r+"retry.honorRetryAfter", "RetryPolicy.rate_limited_retry_back_off; a longer Retry-After ends the tries: upstream filter header_mutation sets x-envoy-ratelimited")
	envoy(r+"retry.honorRetryAfter.max", "RateLimitedRetryBackOff.max_interval")
	envoy(r+"retry.idempotency", "RetryPolicy.retriable_request_headers: an idempotent method, or a key")
	envoy(r+"retry.idempotency.header", "RetryPolicy.retriable_request_headers")
	filter(r+"retry.idempotency.generate", "stamps a key before the router, so that all tries carry it")
	filter(r+"breaker", "one state for all workers of an Envoy, in shared data")
	filter(r+"pool", "a permit before the request is sent on")
	envoy(r+"wrapUpstreamErrors", "as the policy's, for this route")

	const o = "ServiceLevelObjective.spec"
	control(o, "evaluated over what the filter counts")
	filter(o+".indicator.latency.threshold", "a bound of the histograms")
	control(o+".indicator.latency.threshold", "calls above it are bad")
	control(o+".budgetPolicy", "looked at each second; an action leaves once a tenth less than its step is consumed")
	control(o+".budgetPolicy.actions", "the release gate, alerts and experiments obey; each coming and going is in the audit log")
	return table
}

// placesOf are those of the field, or of the nearest field above that has some.
func placesOf(schema string) []Place {
	for {
		if list := places[schema]; list != nil {
			return list
		}
		i := strings.LastIndexByte(schema, '.')
		if i < 0 {
			return nil
		}
		schema = schema[:i]
	}
}
