package api

import "reflect"

// description is what OpenAPI says of a member: the `doc` tag of our own
// types, else the table below. "" fails a test.
func description(component, member string, f reflect.StructField) string {
	if doc := f.Tag.Get("doc"); doc != "" {
		return doc
	}
	return memberDocs[component+"."+member]
}

// memberDocs describes the members of types that belong to other packages:
// those are made for the domain and carry no OpenAPI prose.
var memberDocs = map[string]string{
	"Metadata.name": "RFC 1123 label, unique within the kind.",

	"Node.id":               "Envoy's node.id.",
	"Node.cluster":          "Envoy's node.cluster.",
	"Node.connected":        "Its xDS stream is open.",
	"Node.lastSeen":         "Last sign of life, by xDS or telemetry.",
	"Node.planHash":         "Hash of the plan that all its workers say they run; empty while they differ or are silent.",
	"Node.filterHash":       "SHA-256 of the filter module that all its workers say they run, by the same rule.",
	"Node.workers":          "The VMs that run the filter, one per worker thread.",
	"Node.resources":        "By type: LDS, RDS, CDS, EDS, SDS, ECDS.",
	"Node.state":            "disconnected, rejected, stale, unknown or synced: the first that holds.",
	"Node.synced":           "Connected, nothing rejected, and all its workers say the plan hash that they should.",
	"Node.reason":           "Why it is not synced; empty when it is.",
	"Node.edge":             "The Edge that selects it; empty when none or several do.",
	"Node.targetPlanHash":   "Hash of the plan that it should run.",
	"Node.targetFilterHash": "SHA-256 of the filter module that it should run.",
	"Node.workerCount":      "Number of its worker threads; 0 where unknown.",
	"Node.vmId":             "vm_id pushed last; seawall-rN after N-1 healings.",
	"Node.version":          "Version of the launcher that started it.",

	"Worker.vm":         "Random id from the VM's birth.",
	"Worker.planHash":   "Hash of the plan that it runs.",
	"Worker.filterHash": "SHA-256 of the module that it runs.",
	"Worker.served":     "It has had a request, so it is a worker and not the main thread.",
	"Worker.alive":      "It reported within the last five seconds.",
	"Worker.lastSeen":   "Its last batch.",

	"Resource.state":   "synced, stale or rejected.",
	"Resource.version": "Version that the node accepted last.",
	"Resource.message": "Envoy's own text when rejected, else why it is stale.",

	"Breaker.service": "Service.",
	"Breaker.route":   "Route.",
	"Breaker.node":    "Envoy's node.id.",
	"Breaker.state":   "closed, open or half-open.",
	"Breaker.forced":  "An operator holds it in this state.",
	"Breaker.since":   "When it entered the state; null when it never left closed.",
	"Breaker.retryAt": "When an open one starts to probe; null otherwise.",
	"Breaker.cause":   "What tripped it: an outcome, failure-rate or slow-calls.",
	"Breaker.reason":  "Why an operator forced it; empty when none did.",
	"Breaker.until":   "When that ends by itself; null when it is not forced.",

	"Pool.service":       "Service.",
	"Pool.pool":          "Pool.",
	"Pool.node":          "Envoy's node.id.",
	"Pool.held":          "Permits taken now, over all workers.",
	"Pool.waiting":       "Requests in the queue now.",
	"Pool.limit":         "Permits in all; 0 when the policy has the pool no more and calls still run.",
	"Pool.granted":       "Permits given since the Envoy started, at once or after waiting.",
	"Pool.full":          "Requests refused since the Envoy started: no permit and no place in the queue.",
	"Pool.timedOut":      "Requests refused since the Envoy started: waited too long.",
	"Pool.longestWaitMs": "The longest wait that ended within the last half to whole minute, in milliseconds.",

	"TrafficRow.service":   "Service.",
	"TrafficRow.route":     "Route; empty for a known host without a matching route.",
	"TrafficRow.priority":  "critical, high, medium or low.",
	"TrafficRow.total":     "good + bad.",
	"TrafficRow.good":      "Not bad, by the default list of bad outcomes.",
	"TrafficRow.bad":       "By the default list of bad outcomes.",
	"TrafficRow.slow":      "ok and 4xx, slower than the strictest latency objective on the route; 0 where there is none.",
	"TrafficRow.shed":      "Refused for load.",
	"TrafficRow.degraded":  "Answered by a fallback: good, whatever its cause.",
	"TrafficRow.injected":  "Ended by chaos; in no total.",
	"TrafficRow.aborted":   "The client left first; in no total.",
	"TrafficRow.synthetic": "Tests by the client's own word, however they ended; in no total and no outcome.",
	"TrafficRow.attempts":  "Calls that upstreams were sent for all of these, retries included.",
	"TrafficRow.outcomes":  "Requests by outcome word; only those that occurred.",
	"TrafficRow.would":     "By outcome word: what shadow mode would have done.",
	"TrafficRow.coarse":    "Some of its minutes were merged before they arrived.",
	"TrafficRow.p50":       "Median latency of ok and 4xx in milliseconds; null without any.",
	"TrafficRow.p95":       "95th percentile of the latency of ok and 4xx in milliseconds; null without any.",
	"TrafficRow.p99":       "99th percentile of the latency of ok and 4xx in milliseconds; null without any.",

	"SLO.name":       "Name of the ServiceLevelObjective.",
	"SLO.service":    "Service.",
	"SLO.objective":  "Ratio, such as 0.999.",
	"SLO.window":     "Rolling window, such as 30d.",
	"SLO.total":      "Requests that count.",
	"SLO.bad":        "Those that were bad.",
	"SLO.attained":   "1 - bad/total; null when total is 0.",
	"SLO.budget":     "The error budget.",
	"SLO.burn":       "Burn rates by tier.",
	"SLO.exhaustsIn": "Time until the budget is used up at the present burn; 0s when it is, null when it would not be.",
	"SLO.state":      "stale, exhausted, burning, insufficient-data or ok: the first that holds.",
	"SLO.actions":    "Actions of the budget policy that are in force.",
	"SLO.degraded":   "Of total: answered by a fallback.",
	"SLO.aborted":    "Outside of total, but for slow ones of a latency objective: the client left first.",
	"SLO.injected":   "Outside of total: ended by chaos.",
	"SLO.synthetic":  "Outside of total: tests by the client's own word, however they ended.",

	"Reason.code":    "freeze-releases, limit-releases, fast-burn, chaos-running, telemetry-stale, insufficient-data, override or no-such-service.",
	"Reason.message": "The same for people, with the objective and its numbers.",

	"Deployment.id":      "Ascends.",
	"Deployment.at":      "When it was told.",
	"Deployment.service": "Service.",
	"Deployment.version": "Version.",
	"Deployment.by":      "Who told it, as far as it is known.",

	"Budget.allowed":          "Bad requests that the objective allows; may be a fraction.",
	"Budget.remaining":        "Allowed minus bad; may be a fraction and negative.",
	"Budget.consumed":         "bad/allowed as a ratio; null when total is 0.",
	"Budget.allowedMinutes":   "The same as minutes of a total outage: window × (1 - objective).",
	"Budget.remainingMinutes": "allowedMinutes × (1 - consumed); may be negative; null when total is 0.",

	"Burn.tier":       "fast, medium, slow or chronic.",
	"Burn.long":       "Long window.",
	"Burn.short":      "Short window.",
	"Burn.threshold":  "The tier fires above this rate.",
	"Burn.longTotal":  "Requests in the long window.",
	"Burn.longBad":    "Bad ones of those.",
	"Burn.shortTotal": "Requests in the short window.",
	"Burn.shortBad":   "Bad ones of those.",
	"Burn.longRate":   "Rate over the long window: 1 uses the budget up exactly within the SLO's window.",
	"Burn.shortRate":  "Rate over the short window.",
	"Burn.firing":     "Both rates exceed the threshold, over enough requests.",

	"AuditEntry.id":      "Ascends.",
	"AuditEntry.at":      "When.",
	"AuditEntry.by":      "Who, as far as it is known; seawall for what ended by itself.",
	"AuditEntry.action":  "What was done: breaker-open, breaker-closed, breaker-reset, breaker-override-expired; release-allow, release-deny, release-reset, release-override-expired, release-exempted; deployment; an action of a budget policy, with -lifted behind it when it left; postmortem-closed.",
	"AuditEntry.subject": "What was changed, such as breakers/payments/charge.",
	"AuditEntry.reason":  "Why, as the operator put it.",
	"AuditEntry.until":   "When it ends by itself; null where it does not.",

	"Problem.type":        "URL of the problem type; it has a page at /problems/<slug>.",
	"Problem.title":       "The type in a few words.",
	"Problem.status":      "The HTTP status.",
	"Problem.detail":      "What happened this time.",
	"Problem.instance":    "The request id, as in the x-request-id header and in the log.",
	"Problem.retryable":   "The same request may succeed later.",
	"Problem.retry_after": "Seconds to wait before that.",
	"Problem.errors":      "What a validation found wrong; of services' documents, this API's have none.",
	"Problem.limit":       "Requests that a rate limit allows; of services' documents.",
	"Problem.window":      "Seconds in which it allows them; of services' documents.",
	"Violation.detail":    "What is wrong.",
	"Violation.pointer":   "Where, as a JSON Pointer into the request.",
}
