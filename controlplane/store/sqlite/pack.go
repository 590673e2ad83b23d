package sqlite

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	sqlite3 "modernc.org/sqlite"

	"github.com/seawall-mesh/seawall/controlplane/slo"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// A pack is many counters in one BLOB: pairs of unsigned varints, first the
// key's distance from the key before it, then its number. Keys ascend, so packs
// are added up without being unfolded. The low eight bits of a key are its
// kind, the others a detail.
const (
	kindMask = 0xff

	// maxKeys bounds what a sender of ever new statuses or bounds can make of one
	// row: from there on the detail of new keys is left out. An honest pack has
	// some twenty keys.
	maxKeys = 1024

	// maxNumber is where a number stops to grow: 35,000 years of a thousand
	// requests a second, and sums of all numbers still fit.
	maxNumber = 1 << 50
)

var errPack = errors.New("malformed pack")

// Keys of counts: the status is the detail, 0 where it is not known; outcome and
// flags are the kind.
const (
	flagCoarse    = 1 << 0
	flagDegraded  = 1 << 1
	flagSynthetic = 1 << 2

	outcomeShift = 3
	outcomeMask  = 31
	statusShift  = 8

	// attemptsKey has the place of an outcome that there is not.
	attemptsKey = outcomeMask << outcomeShift
)

// countKey needs a count that has passed Decode.
func countKey(c contract.Count, coarse bool) uint64 {
	outcome, _ := contract.ParseOutcome(c.Outcome)
	key := uint64(c.Status)<<statusShift | uint64(outcome)<<outcomeShift
	if c.Degraded {
		key |= flagDegraded
	}
	if c.Synthetic {
		key |= flagSynthetic
	}
	if coarse {
		key |= flagCoarse
	}
	return key
}

// latencyKey has the upper bound as its detail, 0 for +Inf, and the class as its
// kind.
func latencyKey(class slo.Class, leUS int64) uint64 { return uint64(leUS+1)<<8 | uint64(class) }

// add counts n under key.
func add(numbers map[uint64]uint64, key, n uint64) {
	if _, known := numbers[key]; !known && len(numbers) >= maxKeys {
		key &= kindMask
	}
	numbers[key] = min(numbers[key]+min(n, maxNumber), maxNumber)
}

func appendPair(pack []byte, distance, n uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(pack, distance), min(n, maxNumber))
}

func packOf(numbers map[uint64]uint64) []byte {
	pack := make([]byte, 0, 4*len(numbers))
	var last uint64
	for _, key := range slices.Sorted(maps.Keys(numbers)) {
		pack = appendPair(pack, key-last, numbers[key])
		last = key
	}
	return pack
}

// packReader walks through a pack.
type packReader struct {
	rest []byte
	key  uint64
	n    uint64
	err  error
}

// next steps to the next pair, which is in key and n then.
func (r *packReader) next() bool {
	if len(r.rest) == 0 {
		return false
	}
	distance, a := binary.Uvarint(r.rest)
	if a <= 0 || r.key+distance < r.key {
		r.rest, r.err = nil, errPack
		return false
	}
	n, b := binary.Uvarint(r.rest[a:])
	if b <= 0 {
		r.rest, r.err = nil, errPack
		return false
	}
	r.rest, r.key, r.n = r.rest[a+b:], r.key+distance, n
	return true
}

// addPacks is the sum of two packs.
func addPacks(a, b []byte) ([]byte, error) {
	x, y := packReader{rest: a}, packReader{rest: b}
	sum, keys := make([]byte, 0, len(a)+len(b)), 0
	var last uint64
	put := func(key, n uint64) {
		sum = appendPair(sum, key-last, n)
		last = key
		keys++
	}
	more, also := x.next(), y.next()
	for more && also {
		switch {
		case x.key < y.key:
			put(x.key, x.n)
			more = x.next()
		case x.key > y.key:
			put(y.key, y.n)
			also = y.next()
		default:
			put(x.key, min(x.n, maxNumber)+min(y.n, maxNumber))
			more, also = x.next(), y.next()
		}
	}
	for ; more; more = x.next() {
		put(x.key, x.n)
	}
	for ; also; also = y.next() {
		put(y.key, y.n)
	}
	if err := errors.Join(x.err, y.err); err != nil {
		return nil, err
	}
	if keys <= maxKeys {
		return sum, nil
	}
	numbers := map[uint64]uint64{}
	for _, r := range []packReader{{rest: a}, {rest: b}} {
		for r.next() {
			add(numbers, r.key, r.n)
		}
	}
	return packOf(numbers), nil
}

// functions makes SQL know packs: seawall_add(a, b), and the aggregates
// seawall_sum(pack) and seawall_pack(key, n). The driver keeps functions for
// the whole process, so they are told to it once.
var functions = sync.OnceValue(func() error {
	return errors.Join(
		sqlite3.RegisterFunction("seawall_add", &sqlite3.FunctionImpl{NArgs: 2, Deterministic: true,
			Scalar: func(_ *sqlite3.FunctionContext, args []driver.Value) (driver.Value, error) {
				a, errA := blob(args[0])
				b, errB := blob(args[1])
				if err := errors.Join(errA, errB); err != nil {
					return nil, err
				}
				return addPacks(a, b)
			}}),
		sqlite3.RegisterFunction("seawall_sum", &sqlite3.FunctionImpl{NArgs: 1, Deterministic: true,
			MakeAggregate: func(sqlite3.FunctionContext) (sqlite3.AggregateFunction, error) { return &packSum{}, nil }}),
		sqlite3.RegisterFunction("seawall_pack", &sqlite3.FunctionImpl{NArgs: 2, Deterministic: true,
			MakeAggregate: func(sqlite3.FunctionContext) (sqlite3.AggregateFunction, error) { return packUp{}, nil }}),
	)
})

// blob reads an argument of a function. An empty one may come as NULL.
func blob(v driver.Value) ([]byte, error) {
	switch v := v.(type) {
	case []byte:
		return v, nil
	case nil:
		return nil, nil
	}
	return nil, fmt.Errorf("%w: %T", errPack, v)
}

// packSum adds packs up.
type packSum struct{ sum []byte }

// Step takes in one pack.
func (s *packSum) Step(_ *sqlite3.FunctionContext, args []driver.Value) error {
	p, err := blob(args[0])
	if err != nil {
		return err
	}
	s.sum, err = addPacks(s.sum, p)
	return err
}

// WindowValue is the sum.
func (s *packSum) WindowValue(*sqlite3.FunctionContext) (driver.Value, error) {
	return append([]byte{}, s.sum...), nil
}

// WindowInverse is for window functions, which this is not used as.
func (s *packSum) WindowInverse(*sqlite3.FunctionContext, []driver.Value) error {
	return errors.ErrUnsupported
}

// Final has nothing to free.
func (s *packSum) Final(*sqlite3.FunctionContext) {}

// packUp makes a pack of keys and numbers.
type packUp map[uint64]uint64

// Step takes in one key and number.
func (u packUp) Step(_ *sqlite3.FunctionContext, args []driver.Value) error {
	key, ok := args[0].(int64)
	n, also := args[1].(int64)
	if !ok || !also || key < 0 || n < 0 {
		return errPack
	}
	add(u, uint64(key), uint64(n))
	return nil
}

// WindowValue is the pack.
func (u packUp) WindowValue(*sqlite3.FunctionContext) (driver.Value, error) { return packOf(u), nil }

// WindowInverse is for window functions, which this is not used as.
func (u packUp) WindowInverse(*sqlite3.FunctionContext, []driver.Value) error {
	return errors.ErrUnsupported
}

// Final has nothing to free.
func (u packUp) Final(*sqlite3.FunctionContext) {}
