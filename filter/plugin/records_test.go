package plugin

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever other VMs write in between, a set with a version that was guessed
// replaces this VM's own last write or fails.
func TestAGuessedVersionNeverHitsAnothersWrite(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p := newProxy(rt)
		p.version = rapid.SampledFrom([]uint32{0, 5, 1<<31 + 5}).Draw(rt, "version")
		hosts := []*worker{{proxy: p, calls: map[string]int{}}, {proxy: p, calls: map[string]int{}}}
		vms := []*records{{host: hosts[0]}, {host: hosts[1]}}
		type word struct {
			version uint32
			write   int // the one that it is believed to be of
		}
		believes, is, writes := []map[string]word{{}, {}}, map[string]int{}, 0
		vm := func(rt *rapid.T) int { return rapid.IntRange(0, 1).Draw(rt, "vm") }
		key := func(rt *rapid.T) string { return rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "key") }
		rt.Repeat(map[string]func(*rapid.T){
			"read": func(rt *rapid.T) {
				vm, key := vm(rt), key(rt)
				if _, version, ok := vms[vm].get(key); ok {
					believes[vm][key] = word{version, is[key]}
				}
			},
			"write": func(rt *rapid.T) {
				vm, key := vm(rt), key(rt)
				known, ok := believes[vm][key]
				if !ok {
					known.version = Absent
				}
				next, ok := vms[vm].set(key, []byte{1}, known.version)
				if !ok {
					return
				}
				require.Equal(rt, is[key], known.write, "it replaced what it had not seen")
				writes++
				is[key] = writes
				believes[vm][key] = word{next, writes}
			},
		})
	})
}

// Who looks at a record learns how far the versions are, so that its next guess
// holds.
func TestAReadMendsTheGuess(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	p.version = 3 << 30 // of an Envoy that has run for days
	one, other := &records{host: &worker{proxy: p, calls: map[string]int{}}}, &records{host: &worker{proxy: p, calls: map[string]int{}}}
	_, _ = other.set("other", []byte{1}, Absent)
	for range 9 { // of another record
		_, version, _ := other.get("other")
		_, ok := other.set("other", []byte{1}, version)
		require.True(t, ok)
	}
	_, ok := one.set("own", []byte{1}, Absent)
	require.True(t, ok)
	_, version, ok := one.get("own")
	require.True(t, ok)
	for range 3 {
		version, ok = one.set("own", []byte{1}, version)
		require.True(t, ok, "nobody else has written since it looked")
	}
}
