package diag

import "slices"

// Code is one entry of the catalogue.
type Code struct {
	Code     string   // SWnnnn; never re-used for something else
	Severity Severity // of every finding with this code
	Title    string   // what it is about, in a few words
	Why      string   // why it is a finding
	Fix      string   // what to do
}

// The codes. 00xx is reading files, 01xx one value or object by itself, 02xx
// objects among each other, 03xx guards that do not fit together, 04xx
// objectives, 05xx experiments, 09xx what this build does not do yet.
const (
	FileUnreadable   = "SW0001"
	FileTooLarge     = "SW0002"
	FileNotText      = "SW0003"
	YAMLSyntax       = "SW0004"
	YAMLUnsupported  = "SW0005"
	TooMuch          = "SW0006"
	NothingFound     = "SW0007"
	TooManyFindings  = "SW0008"
	UnknownVersion   = "SW0101"
	UnknownField     = "SW0102"
	UnknownKind      = "SW0103"
	MissingField     = "SW0104"
	WrongType        = "SW0105"
	DuplicateKey     = "SW0106"
	EmptyValue       = "SW0107"
	NotExactlyOne    = "SW0108"
	BadDuration      = "SW0110"
	BadRatio         = "SW0111"
	OutOfRange       = "SW0112"
	NotAllowed       = "SW0113"
	BadName          = "SW0114"
	BadOutcome       = "SW0115"
	BadSize          = "SW0116"
	BadRegex         = "SW0117"
	BadHost          = "SW0118"
	BadPath          = "SW0119"
	BadAddress       = "SW0120"
	BadHeader        = "SW0121"
	BadMethod        = "SW0122"
	BadTime          = "SW0123"
	BadURL           = "SW0124"
	RepeatedItem     = "SW0125"
	ReservedName     = "SW0126"
	BadCertificate   = "SW0127"
	FileNotHere      = "SW0128"
	RegexTooLarge    = "SW0129"
	BodyContradicts  = "SW0130"
	SecretUnusable   = "SW0131"
	DuplicateObject  = "SW0201"
	SecondPolicy     = "SW0202"
	UnknownService   = "SW0203"
	UnknownRoute     = "SW0204"
	UnknownPool      = "SW0205"
	UnknownFlag      = "SW0206"
	UnknownQueue     = "SW0207"
	PathCollision    = "SW0208"
	PortCollision    = "SW0209"
	DuplicateRoute   = "SW0210"
	UnreachableRoute = "SW0211"
	SameNodes        = "SW0212"
	UndeclaredFlag   = "SW0213"
	RouteOutside     = "SW0214"
	PathWithoutRoute = "SW0215"
	EndpointLoop     = "SW0216"
	CascadeBroken    = "SW0301"
	RetriesDoNotFit  = "SW0302"
	UnsafeRetry      = "SW0303"
	ResetAndTimeout  = "SW0304"
	NotRetryable     = "SW0305"
	NotAFailure      = "SW0306"
	PerTryTooLong    = "SW0307"
	TimeoutNoRetry   = "SW0308"
	MaxBelowBase     = "SW0309"
	ThresholdOrder   = "SW0310"
	PoolWaitTooLong  = "SW0311"
	NeverSlow        = "SW0312"

	WaitOutlivesRequest = "SW0313"
	PoolAboveLimit      = "SW0315"
	ObjectiveRange      = "SW0401"
	NeverCounted        = "SW0402"
	BudgetStepOrder     = "SW0403"
	AlertNeverFires     = "SW0404"
	StepNeverReached    = "SW0405"
	ClassNeverThere     = "SW0406"
	NeverTooSlow        = "SW0407"
	UnsafeFault         = "SW0501"
	NoGuardrails        = "SW0502"
	RampCutShort        = "SW0503"
	BlindGuardrail      = "SW0504"
	NotEnforced         = "SW0900"
)

// catalogue is sorted by code.
var catalogue = []Code{
	{FileUnreadable, Error, "file cannot be read", "A policy that is there but not read would silently not protect.", "Make the file readable for the user that Seawall runs as, or mend the symbolic link."},
	{FileTooLarge, Error, "file too large", "Files are read as a whole; the limit of 4 MiB keeps a wrong file from filling the memory.", "Split the file, or take it out of the directory."},
	{FileNotText, Error, "file is not UTF-8 text", "YAML is UTF-8 text without control characters.", "Save the file as UTF-8, or take it out of the directory."},
	{YAMLSyntax, Error, "not valid YAML", "The document cannot be read, so nothing in it is known.", "Mend the syntax at the place shown; other documents have been checked all the same."},
	{YAMLUnsupported, Error, "YAML feature that policies do not use", "Tags, directives, complex keys and very deep nesting are never needed here and often hide a mistake or an attack.", "Write plain mappings, lists and values."},
	{TooMuch, Error, "too many files or objects", "A load is bounded to 10,000 files, 10,000 objects and 64 MiB.", "Point Seawall at the policies only."},
	{NothingFound, Warning, "no policy found", "The path has no *.yaml or *.yml file with a document in it. Hidden files, *_test.yaml and names ending in ~ are left out.", "Check the path."},
	{TooManyFindings, Warning, "more findings than are shown", "The list is bounded; the first findings usually explain the rest.", "Mend what is shown and validate again."},

	{UnknownVersion, Error, "unknown apiVersion", "Fields change their meaning between versions, so a version is never guessed.", "Write apiVersion: seawall.io/v1alpha1."},
	{UnknownField, Error, "unknown field", "A field that is ignored is a protection that somebody believes in and does not have.", "Correct the spelling or its place, or take the field out."},
	{UnknownKind, Error, "unknown kind", "Only Seawall's kinds are read.", "Use Edge, Service, ResiliencePolicy, ServiceLevelObjective, ChaosExperiment or FeatureFlag."},
	{MissingField, Error, "required field is missing", "There is no safe default for it.", "Add the field."},
	{WrongType, Error, "value of the wrong type", "The value is, for instance, a list where a text belongs.", "Write the type that the message names; quote a text that looks like a number."},
	{DuplicateKey, Error, "key written twice", "Only one of the two could take effect.", "Take one out."},
	{EmptyValue, Error, "key without a value", "It is not clear whether the default or nothing is meant.", "Write {} for the defaults, or take the key out."},
	{NotExactlyOne, Error, "not exactly one of several", "The fields exclude each other.", "Keep exactly one of them."},
	{BadDuration, Error, "not a duration", "Durations carry their unit.", "Write 250ms, 1.5s, 2m, 1h30m or 30d."},
	{BadRatio, Error, "not a ratio", "Ratios are written in percent, so that 0.5 is never taken for half a percent.", "Write 5% or 0.01%; four decimals at most."},
	{OutOfRange, Error, "value out of range", "The value makes no sense or cannot be kept by the data plane.", "Choose a value within the range shown."},
	{NotAllowed, Error, "value not allowed here", "The field has a fixed vocabulary.", "Use one of the values shown."},
	{BadName, Error, "not a valid name", "Names go into URLs and stat names.", "Use at most 63 lower-case letters, digits and hyphens, with a letter or digit at both ends."},
	{BadOutcome, Error, "not an outcome", "Outcomes are a fixed vocabulary; a number means an upstream's status.", "Use ok, 4xx, 5xx, reset, timeout, connect-failure, shed, breaker-open, bulkhead-full, bulkhead-timeout, deadline or a status."},
	{BadSize, Error, "not a size", "Sizes carry their unit.", "Write 512B, 64KiB, 10MiB or 1GiB."},
	{BadRegex, Error, "not a valid regular expression", "Expressions are RE2: no look-around, no back-references; they match the whole value.", "Mend the expression."},
	{BadHost, Error, "not a host name", "Hosts are compared with :authority, whose port is ignored.", "Write a lower-case host name without scheme and port, or \"*\" for any."},
	{BadPath, Error, "not a valid path", "The path is compared after the router has normalised it, so some paths can never be seen.", "Start with /, without query, empty segments, . or .. segments; no / at the end of a prefix."},
	{BadAddress, Error, "not an IP address", "The data plane does not look names up here.", "Write an IP address; for a name use dns: {name: …, port: …}."},
	{BadHeader, Error, "not a usable header", "The name is not a header name, or the edge drops or owns that header.", "Use a plain header name that is neither x-seawall-* nor x-envoy-*."},
	{BadMethod, Error, "not an HTTP method", "Methods are case-sensitive; a misspelt one never matches.", "Write a registered method in upper case."},
	{BadTime, Error, "not a time", "Times of day are 24-hour hh:mm; time zones are IANA names.", "Write \"09:00\" and Europe/Berlin."},
	{BadURL, Error, "not a usable URL", "Webhooks are called over http or https.", "Write an absolute http or https URL."},
	{RepeatedItem, Error, "item listed twice", "The second has no effect and is usually a typing error.", "Take one out."},
	{ReservedName, Error, "reserved name", "Seawall's own clusters in Envoy have names that begin so.", "Choose another name."},
	{BadCertificate, Error, "not a usable certificate", "Envoy would refuse it, and what it belongs to would not be served.", "Give PEM files; a listener's certificate comes first in its chain and fits its key."},
	{FileNotHere, Warning, "file cannot be read here", "The file is read by Envoy, which may run elsewhere. Without it, Envoy refuses the listener or cluster.", "Check the name; it counts on the machine of the Envoy."},
	{RegexTooLarge, Error, "regular expression too large", "A repeat within a repeat makes a huge program of a few signs, for each request to walk through; Envoy refuses the largest, and the whole push with them.", "Use prefix or template, smaller repeats, or several routes."},
	{BodyContradicts, Error, "body that contradicts its headers", "Clients read the body as its content-type and status say, and would fail on it when the fallback is needed.", "Correct the body, or its content-type."},
	{SecretUnusable, Error, "file of a secret that cannot be used", "Without its secret a message could not be signed, and the receiver would refuse it or believe anybody.", "Give the base64 of 24 to 64 bytes, perhaps with whsec_ in front, in a file that others cannot read."},

	{DuplicateObject, Error, "two objects with one name", "Only one of the two could take effect.", "Rename one or take it out."},
	{SecondPolicy, Error, "second policy for a service", "Routes are tried in order; between two files there is no order.", "Put the routes of a service into one ResiliencePolicy."},
	{UnknownService, Error, "no such service", "Nothing would be guarded.", "Correct the name or add the Service."},
	{UnknownRoute, Error, "no such route", "Nothing would be counted or hit.", "Use the name of a route in the service's ResiliencePolicy."},
	{UnknownPool, Error, "no such pool", "The calls would not be limited.", "Use a name from pools of the same policy."},
	{UnknownFlag, Error, "no such flag", "The flag would have no value.", "Correct the name or add the FeatureFlag."},
	{UnknownQueue, Error, "no such dead-letter queue", "Nothing would be counted.", "Use the queue of a deadLetter in the service's policy."},
	{PathCollision, Error, "two services with one host and path", "The router could send the request to one of them only.", "Give one of them another host or a longer path."},
	{PortCollision, Error, "two listeners on one port", "The second could not be opened.", "Use another port or address."},
	{DuplicateRoute, Error, "two routes with one name", "State, counts and reports are kept by service and route.", "Rename one."},
	{UnreachableRoute, Warning, "route that is never reached", "The first match wins, and earlier routes take all that this one matches; or it matches no path at all.", "Move the route up, or narrow the earlier one."},
	{SameNodes, Error, "two edges for the same nodes", "An Envoy gets one edge.", "Tell them apart by nodes: {cluster: …} or {id: …}."},
	{UndeclaredFlag, Warning, "experiment behind a flag that nothing declares", "A flag that does not exist is off, so the experiment cannot start.", "Add the FeatureFlag, or correct the name."},
	{RouteOutside, Warning, "route outside of its service's paths", "The service is asked for paths of its own only, so the route never gets a request.", "Correct the route's path, or add it to the service's paths."},
	{PathWithoutRoute, Warning, "path that no route takes", "With a ResiliencePolicy, what none of its routes takes is answered 404; here that is all of a path that the service claims.", "Add a route for the path, or take it out of the service."},
	{EndpointLoop, Warning, "endpoint that is the edge itself", "The edge would send the request to its own listener, and again, until connections run out.", "Give the service's own port, or move the listener."},

	{CascadeBroken, Error, "timeouts do not cascade", "An outer layer that gives up first cannot answer properly, and work goes on for nobody.", "Let each layer wait longer than the one inside: client > request, perTry > service > db, cache."},
	{RetriesDoNotFit, Error, "retries do not fit into the request's time", "attempts × perTry and the back-offs between them exceed timeout.request, so the last tries never happen.", "Raise timeout.request, or lower attempts, perTry or the back-off."},
	{UnsafeRetry, Error, "retry of an unsafe method without an idempotency key", "The service may act twice.", "Add retry.idempotency, or take these methods out of the route."},
	{ResetAndTimeout, Error, "reset without timeout, or the reverse", "Envoy cannot retry the one without the other.", "List both or neither."},
	{NotRetryable, Error, "outcome that is never retried", "Another try cannot help, or would make an overload worse.", "Retry 5xx or single statuses of it, 408, 409, 425, 429, reset, timeout, connect-failure."},
	{NotAFailure, Error, "outcome that cannot be a breaker failure", "A breaker judges what the upstream did: successes and Seawall's own refusals say nothing bad about it.", "Use 4xx, 5xx, statuses, reset, timeout, connect-failure."},
	{PerTryTooLong, Error, "perTry longer than request", "The request's own limit always comes first.", "Lower timeout.perTry."},
	{TimeoutNoRetry, Warning, "timeout is retried only with perTry", "Without timeout.perTry a slow try uses up the whole request, so no time is left for another.", "Set timeout.perTry."},
	{MaxBelowBase, Error, "cap below the first value", "The cap would shorten even the first wait.", "Raise the cap or lower the first value."},
	{ThresholdOrder, Error, "shedding thresholds out of order", "Less important classes are dropped first.", "Keep low ≤ medium ≤ high."},
	{PoolWaitTooLong, Error, "wait longer than the pool's timeout", "The timeout bounds wait and call together.", "Lower maxWait or raise timeout."},
	{NeverSlow, Warning, "slow calls that never happen", "timeout.request ends a call before it could count as slow.", "Lower slowCalls.threshold."},
	{WaitOutlivesRequest, Warning, "wait not shorter than the request's time", "timeout.request bounds wait and call together, so a request that waited that long has no time left for the call.", "Lower the pool's maxWait or raise timeout.request."},
	{PoolAboveLimit, Warning, "pools larger than the connection limit", "Over HTTP/1 each call has a connection to itself, so calls that a pool has let in wait again in Envoy, where no priority and no maxWait holds.", "Raise connections.max of the service, or lower maxConcurrency."},

	{ObjectiveRange, Error, "objective that cannot be met or missed", "100% leaves no budget, 0% promises nothing.", "Choose an objective above 0% and below 100%."},
	{NeverCounted, Error, "outcome that no SLI counts as bad", "ok is good by definition; aborted and injected requests are outside.", "Take it out of bad."},
	{BudgetStepOrder, Error, "budget steps out of order", "Steps are cumulative, so they rise.", "Sort the steps by consumed, each once."},
	{AlertNeverFires, Warning, "burn alert that can never fire", "A budget burns at most 1 / (1 - objective) times too fast, when every request is bad; this alert waits for more.", "Raise the objective, or rely on the slower alerts alone."},
	{StepNeverReached, Warning, "budget step that is never reached", "At most 1 / (1 - objective) of a budget can be consumed, when every request of the window is bad.", "Lower consumed, or raise the objective."},
	{ClassNeverThere, Warning, "class that no request has", "The routes have another class, and no client may name its own, so the objective counts nothing of it.", "Take the class out of priorities, or give it to a route."},
	{NeverTooSlow, Warning, "latency threshold that no answer exceeds", "timeout.request ends a request before the threshold, as a timeout, which a latency objective does not count.", "Lower the threshold below timeout.request; count timeouts by an availability objective."},

	{UnsafeFault, Error, "per-attempt error on an unsafe method", "The upstream has already acted when its answer is replaced, and a retry would act twice.", "Use at: edge, or routes with safe methods or an idempotency key."},
	{NoGuardrails, Warning, "experiment without guardrails", "The defaults then hold: it ends after 30m, and early when 75% of a budget is consumed, errors rise by 5 points or a breaker opens. Whoever starts it should have decided that.", "Write guardrails, or guardrails: {} for the defaults."},
	{RampCutShort, Warning, "ramp longer than maxDuration", "The experiment ends before the last steps, so the share that was meant is never reached.", "Raise guardrails.maxDuration, or shorten the ramp."},
	{BlindGuardrail, Warning, "guardrail that sees nothing", "Without an objective there is no budget, and without a breaker none opens, so this guardrail stops nothing.", "Add the objective or breaker, or rely on another guardrail."},

	{NotEnforced, Warning, "accepted, not enforced yet", "The field is part of the schema, but this build does nothing with it.", "Leave it in for later builds; do not rely on it now."},
}

// Lookup finds a code in the catalogue.
func Lookup(code string) (Code, bool) {
	i, ok := slices.BinarySearchFunc(catalogue, code, func(c Code, want string) int {
		switch {
		case c.Code < want:
			return -1
		case c.Code > want:
			return 1
		default:
			return 0
		}
	})
	if !ok {
		return Code{}, false
	}
	return catalogue[i], true
}

// Codes is the whole catalogue, sorted by code.
func Codes() []Code { return slices.Clone(catalogue) }
