package plugin

import (
	"strings"

	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine/breaker"
	"github.com/seawall-mesh/seawall/filter/engine/chaos"
	"github.com/seawall-mesh/seawall/filter/engine/codec"
)

// maxUnknown bounds the names that the plan does not have. They come from the
// control plane's own route configuration, never from a client.
const maxUnknown = 256

// plan is a contract.Plan made ready for requests.
type plan struct {
	hash        string
	failClosed  bool
	problemBase string
	telemetry   contract.Telemetry
	bounds      *bounds
	routes      map[string]*route
	heeds       bool // there is a route that heeds
	bodies      bool // there is a route that gives bodies less time than Envoy does
	endSignal   bool
	faulty      bool // there is a route with faults
	unknown     int  // routes that were added for names that the plan does not have

	last     *route // found last, by lastName: nearly always asked for again
	lastName string
}

// route is where a request belongs.
type route struct {
	full          string // as xds.route_name
	service, name string // name is "" for a known host without a matching route
	priority      contract.Priority
	grpc          bool
	stream        bool // its requests last as long as they like
	unknown       bool
	cell          *cell  // nil: no breaker
	exact         bool   // its breaker tells good answers apart by their status
	tally         *tally // its metrics

	body           int64 // for the client to send the request's body, 0: not looked at
	heeds          bool  // it has a pool, makes keys, or reads or hands on a deadline
	pool           *pool
	timeout        int64 // what the policy gives, 0: no limit
	deadlineHeader string
	keyHeader      string // "": no key is made
	retries        bool   // Envoy may try again
	attempts       bool   // each try counts for the breaker
	perTry         int64  // 0: no limit
	faults         []chaos.Fault

	row    *row // where its requests were counted last
	rowGen uint64
}

// safePlan admits everything and reports to nobody: what is in force before
// the first plan and after a fault in starting one.
func safePlan() *plan { return &plan{bounds: &bounds{}, routes: map[string]*route{}} }

// install puts a plan in force. Breakers and tallies that it shares with the
// one before go on as they are.
func (vm *VM) install(p *contract.Plan) {
	next := &plan{
		hash: p.Hash, failClosed: p.FailureMode == "closed", problemBase: p.ProblemTypeBase, telemetry: p.Telemetry,
		endSignal: p.EndSignal, bounds: vm.plan.bounds, routes: make(map[string]*route, len(p.Routes)),
	}
	if !next.bounds.same(p.LatencyBoundsUS) {
		next.bounds = newBounds(p.LatencyBoundsUS)
	}
	cells := make(map[string]*cell, len(p.Routes))
	tallies := make(map[string]*tally, len(p.Routes))
	vm.installPools(p.Pools)
	list := make([]*cell, 0, len(p.Routes))
	for i := range p.Routes {
		from := &p.Routes[i]
		r := &route{full: from.Name, service: from.Service, name: from.Route, grpc: from.GRPC, stream: from.Stream, tally: vm.tallyOf(from.Name, from.Service, from.Route)}
		r.priority, _ = contract.ParsePriority(from.Priority)
		r.pool, r.timeout, r.deadlineHeader = vm.poolOf(from.Service, from.Pool), from.TimeoutNS, from.DeadlineHeader
		r.keyHeader, r.retries, r.faults = from.KeyHeader, from.Retries > 0, faultsOf(from.Faults)
		if from.Attempts != nil {
			r.attempts, r.perTry = true, from.Attempts.PerTryNS
		}
		next.faulty = next.faulty || len(r.faults) > 0
		r.heeds = r.pool != nil || r.keyHeader != "" || r.deadlineHeader != "" || r.grpc
		r.body = from.BodyNS
		next.bodies = next.bodies || r.body > 0
		next.heeds = next.heeds || r.heeds
		tallies[from.Name] = r.tally
		next.routes[from.Name] = r
		if from.Breaker != nil {
			r.cell = vm.cellOf(from)
			r.exact = r.cell.failures.NamesBelow(400)
			cells[from.Name] = r.cell
			list = append(list, r.cell)
		}
	}
	vm.flushTallies() // those that are about to be forgotten
	vm.plan, vm.cells, vm.cellList, vm.tallies = next, cells, list, tallies
	vm.countUnwell()
	vm.stale = true
}

// cellOf is the route's breaker: the one that this VM has, with new parameters
// if its identity has changed.
func (vm *VM) cellOf(from *contract.Route) *cell {
	identity := parseIdentity(from.Breaker.Identity)
	c := vm.cells[from.Name]
	if c == nil || c.identity != identity {
		fresh := &cell{key: recordPrefix + from.Name, service: from.Service, route: from.Route, identity: identity, shard: shardOf(from.Name), mustReset: true}
		if c != nil {
			fresh.metrics, fresh.defined, fresh.shown, fresh.override = c.metrics, c.defined, c.shown, c.override
		}
		c = fresh
	}
	c.params.HasBreaker, c.params.Breaker, c.slowNS = true, paramsOf(from.Breaker), 0
	if slow := from.Breaker.SlowCalls; slow != nil {
		c.slowNS = slow.ThresholdNS
	}
	c.failures, _, _ = contract.ParseOutcomeSet(from.Breaker.Failures)
	c.force(overrideOf(from.Breaker.Override))
	return c
}

func paramsOf(b *contract.Breaker) breaker.Params {
	p := breaker.Params{
		Threshold: b.ConsecutiveFailures, Probes: b.Probes, Successes: b.Successes,
		RecoveryNS: b.RecoveryNS, RecoveryMaxNS: b.RecoveryMaxNS, MultiplierPPM: b.MultiplierPPM, ProbeExpiryNS: b.ProbeExpiryNS,
	}
	if b.FailureRate != nil {
		p.FailureRate = rateOf(b.FailureRate)
	}
	if b.SlowCalls != nil {
		p.SlowCalls = rateOf(&b.SlowCalls.Rate)
	}
	return p
}

func rateOf(r *contract.Rate) breaker.Rate {
	return breaker.Rate{PPM: r.PPM, WindowNS: r.WindowNS, Minimum: r.MinRequests}
}

// find is the route of an xds.route_name: nil for the empty one. A name that
// the plan does not have, which happens while routes and plan are pushed one
// after the other, gets a route of its own without guards.
func (vm *VM) find(name []byte) *route {
	p := vm.plan
	if p.last != nil && string(name) == p.lastName {
		return p.last
	}
	if r := p.routes[string(name)]; r != nil {
		p.last, p.lastName = r, r.full
		return r
	}
	if len(name) == 0 {
		return nil
	}
	full := string(name)
	service, routeName, ok := strings.Cut(full, "/")
	if !ok || service == "" || len(full) > contract.MaxString || vm.plan.unknown >= maxUnknown {
		return nil
	}
	r := &route{full: full, service: service, name: routeName, priority: contract.Medium, unknown: routeName != "", tally: vm.tallyOf(full, service, routeName)}
	vm.tallies[full] = r.tally
	vm.plan.routes[full] = r
	vm.plan.unknown++
	return r
}

// parseIdentity reads 16 hex digits, which ParsePlan has checked.
func parseIdentity(s string) (id codec.Identity) {
	for i := 0; i < len(s) && i < 2*len(id); i++ {
		digit := s[i] - '0'
		if s[i] >= 'a' {
			digit = s[i] - 'a' + 10
		}
		id[i/2] = id[i/2]<<4 | digit&15
	}
	return id
}
