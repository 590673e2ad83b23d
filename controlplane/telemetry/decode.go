package telemetry

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// What a batch may hold. The filter's own limits are well below.
const (
	maxBody     = 8 << 20
	maxRows     = 4096
	maxEvents   = 4096
	maxBreakers = 4096
	maxPools    = 4096
	maxPerRow   = 1024    // counts, and buckets of each kind
	maxName     = 253     // bytes of a node, service or route
	maxText     = 1024    // bytes of an event's words
	maxMinute   = 1 << 27 // the year 2225: whatever is later is not a Unix minute
	maxNS       = maxMinute * 60 * 1_000_000_000
	maxN        = 1 << 40 // requests in one batch: keeps sums far from overflow
	maxLeUS     = 1 << 40 // 12 days: no bucket ends later

	// maxElements bounds what a body unfolds to: 8 MiB of "{}," would be two
	// million rows.
	maxElements = 250_000
)

// Decode reads and checks one batch. Any error means that the batch can never
// be accepted. Members that this version does not know are ignored.
func Decode(body []byte) (contract.Batch, error) {
	if len(body) > maxBody {
		return contract.Batch{}, fmt.Errorf("batch of %d bytes is longer than %d", len(body), maxBody)
	}
	if n := bytes.Count(body, []byte{','}); n > maxElements {
		return contract.Batch{}, fmt.Errorf("batch has %d elements, more than %d", n, maxElements)
	}
	var b contract.Batch
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&b); err != nil {
		return contract.Batch{}, fmt.Errorf("batch is not JSON of the right shape: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return contract.Batch{}, errors.New("batch is followed by more")
	}
	if err := validate(&b); err != nil {
		return contract.Batch{}, err
	}
	return b, nil
}

func validate(b *contract.Batch) error {
	if b.Schema != contract.BatchSchema {
		return fmt.Errorf("schema is %d, this control plane reads %d", b.Schema, contract.BatchSchema)
	}
	if b.Seq == 0 || b.Seq > 1<<62 {
		return fmt.Errorf("seq %d is out of range", b.Seq)
	}
	if err := errors.Join(
		name("node", b.Node, 1), hexadecimal("boot", b.Boot, 16), hexadecimal("vm", b.VM, 16),
		text("plan", b.Plan, 64), text("filter", b.Filter, 64),
		instant("atNs", b.AtNS), instant("bootNs", b.BootNS),
		atMost("rows", len(b.Rows), maxRows), atMost("events", len(b.Events), maxEvents),
		atMost("breakers", len(b.Breakers), maxBreakers), atMost("pools", len(b.Pools), maxPools),
	); err != nil {
		return err
	}
	var sum uint64
	for i := range b.Rows {
		n, err := validateRow(&b.Rows[i])
		if err != nil {
			return fmt.Errorf("rows[%d]: %w", i, err)
		}
		if sum += n; sum > maxN {
			return errors.New("rows: more requests than one VM can have had")
		}
	}
	for i := range b.Events {
		e := &b.Events[i]
		if err := errors.Join(instant("atNs", e.AtNS), name("kind", e.Kind, 1), name("service", e.Service, 0), name("route", e.Route, 0),
			text("from", e.From, maxText), text("to", e.To, maxText), text("cause", e.Cause, maxText)); err != nil {
			return fmt.Errorf("events[%d]: %w", i, err)
		}
	}
	for i := range b.Breakers {
		s := &b.Breakers[i]
		if !breakerState(s.State) {
			return fmt.Errorf("breakers[%d]: state is not closed, open or half-open", i)
		}
		if err := errors.Join(name("service", s.Service, 1), name("route", s.Route, 1), text("cause", s.Cause, maxText),
			instant("sinceNs", s.SinceNS), instant("retryAtNs", s.RetryAtNS)); err != nil {
			return fmt.Errorf("breakers[%d]: %w", i, err)
		}
	}
	for i := range b.Pools {
		p := &b.Pools[i]
		if err := errors.Join(name("service", p.Service, 1), name("pool", p.Pool, 1), instant("maxWaitNs", p.MaxWaitNS),
			counted("granted", p.Granted), counted("full", p.Full), counted("timedOut", p.TimedOut)); err != nil {
			return fmt.Errorf("pools[%d]: %w", i, err)
		}
	}
	return nil
}

// counted keeps the sums of many VMs from overflowing.
func counted(field string, n uint64) error {
	if n > maxN {
		return fmt.Errorf("%s is out of range", field)
	}
	return nil
}

// validateRow returns the sum of all numbers in the row.
func validateRow(r *contract.Row) (sum uint64, err error) {
	if r.Minute <= 0 || r.Minute > maxMinute {
		return 0, fmt.Errorf("minute %d is out of range", r.Minute)
	}
	if _, ok := contract.ParsePriority(r.Priority); !ok {
		return 0, errors.New("priority is not critical, high, medium or low")
	}
	if err := errors.Join(name("service", r.Service, 0), name("route", r.Route, 0),
		atMost("counts", len(r.Counts), maxPerRow), atMost("good", len(r.Good), maxPerRow), atMost("bad", len(r.Bad), maxPerRow),
		atMost("aborted", len(r.Aborted), maxPerRow)); err != nil {
		return 0, err
	}
	if r.Attempts > maxN {
		return 0, errors.New("attempts is out of range")
	}
	for i := range r.Counts {
		c := &r.Counts[i]
		if _, ok := contract.ParseOutcome(c.Outcome); !ok {
			return 0, fmt.Errorf("counts[%d]: outcome is unknown", i)
		}
		if c.Status > 999 {
			return 0, fmt.Errorf("counts[%d]: status %d is out of range", i, c.Status)
		}
		if c.N > maxN {
			return 0, fmt.Errorf("counts[%d]: n is out of range", i)
		}
		sum += c.N
	}
	for _, buckets := range [][]contract.Bucket{r.Good, r.Bad, r.Aborted} {
		for i := range buckets {
			if le := buckets[i].LeUS; (le <= 0 && le != -1) || le > maxLeUS || buckets[i].N > maxN {
				return 0, fmt.Errorf("bucket %d is out of range", i)
			}
			sum += buckets[i].N
		}
	}
	return sum, nil
}

func breakerState(s string) bool { return s == "closed" || s == "open" || s == "half-open" }

// name checks what goes into keys, labels and pages: UTF-8 without control
// characters.
func name(field, s string, least int) error {
	if len(s) < least || len(s) > maxName {
		return fmt.Errorf("%s has %d bytes, not %d to %d", field, len(s), least, maxName)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s is not UTF-8", field)
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return fmt.Errorf("%s has control characters", field)
		}
	}
	return nil
}

func text(field, s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("%s has %d bytes, more than %d", field, len(s), most)
	}
	return nil
}

func hexadecimal(field, s string, bytes int) error {
	if len(s) != 2*bytes {
		return fmt.Errorf("%s is not %d hex digits", field, 2*bytes)
	}
	if _, err := hex.DecodeString(s); err != nil {
		return fmt.Errorf("%s is not %d hex digits", field, 2*bytes)
	}
	return nil
}

func instant(field string, ns int64) error {
	if ns < 0 || ns > maxNS {
		return fmt.Errorf("%s is out of range", field)
	}
	return nil
}

func atMost(field string, n, most int) error {
	if n > most {
		return fmt.Errorf("%d %s are more than %d", n, field, most)
	}
	return nil
}
