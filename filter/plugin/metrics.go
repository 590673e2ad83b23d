package plugin

import (
	"github.com/seawall-mesh/seawall/filter/contract"
	"github.com/seawall-mesh/seawall/filter/engine/breaker"
)

// tally counts a route's requests for Envoy's own metrics, between ticks.
type tally struct {
	service, route string // as in metric names
	delta          [len(results)]int64
	metrics        [len(results)]Metric
	defined        [len(results)]bool
}

// The results of seawall.requests. shed is what Seawall itself refused; good
// and bad are as an SLO counts by default, without those.
var results = [...]string{"good", "bad", "shed"}

const (
	resultGood = iota
	resultBad
	resultShed
)

func (vm *VM) tallyOf(name, service, route string) *tally {
	if t := vm.tallies[name]; t != nil {
		return t
	}
	return &tally{service: label(service), route: label(route)}
}

func (t *tally) count(o contract.Outcome) {
	switch {
	case o.Refusal():
		t.delta[resultShed]++
	case o.Good():
		t.delta[resultGood]++
	case o.Bad():
		t.delta[resultBad]++
	}
}

func (vm *VM) flushTallies() {
	for _, t := range vm.tallies {
		for i, n := range t.delta {
			if n == 0 {
				continue
			}
			if !t.defined[i] {
				m, ok := vm.host.DefineMetric(Counter, "seawall.requests.service="+t.service+".route="+t.route+".result="+results[i])
				if !ok {
					continue
				}
				t.metrics[i], t.defined[i] = m, true
			}
			vm.host.MetricAdd(t.metrics[i], n)
			t.delta[i] = 0
		}
	}
}

// show sets the gauges of a breaker's position, when this VM sees it change.
func (vm *VM) show(c *cell, now int64) {
	kind := c.position(now)
	if c.defined && c.shown == kind {
		return
	}
	if !c.defined {
		prefix := "seawall.breaker_state.service=" + label(c.service) + ".route=" + label(c.route) + ".state="
		for i := range c.metrics {
			m, ok := vm.host.DefineMetric(Gauge, prefix+breaker.Kind(i).String())
			if !ok {
				return
			}
			c.metrics[i] = m
		}
		c.defined = true
	}
	for i, m := range c.metrics {
		value := uint64(0)
		if breaker.Kind(i) == kind {
			value = 1
		}
		vm.host.MetricSet(m, value)
	}
	c.shown = kind
}

// label makes a value that our stats_tags can cut out of a metric's name: a
// dot would end it, and there must be something. No name of a policy has an
// underscore, so "_" is the known host without a matching route.
func label(s string) string {
	if s == "" {
		return "_"
	}
	out := []byte(s)
	for i, b := range out {
		if b == '.' || b == '=' {
			out[i] = '_'
		}
	}
	return string(out)
}
