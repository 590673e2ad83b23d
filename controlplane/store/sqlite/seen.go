package sqlite

import (
	"database/sql"
	"errors"
	"time"

	"github.com/seawall-mesh/seawall/controlplane/telemetry"
	"github.com/seawall-mesh/seawall/filter/contract"
)

// gapLimit bounds the gaps kept of one VM. The oldest goes first: what was
// missing there counts as seen, so it would be lost, never doubled.
const gapLimit = 64

// mark notes that the batch has been seen and says whether it is new. Batches
// may overtake one another, so what was skipped is remembered as a gap and
// accepted once when it comes.
func mark(tx *sql.Tx, b *contract.Batch, at time.Time) (telemetry.Applied, error) {
	var last int64
	seq, now := int64(b.Seq), at.UnixNano()
	err := tx.QueryRow("SELECT seq FROM vm WHERE node=? AND vm=?", b.Node, b.VM).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		if _, err := tx.Exec("INSERT INTO vm (node, vm, seq, seen) VALUES (?,?,?,?)", b.Node, b.VM, seq, now); err != nil {
			return telemetry.Applied{}, err
		}
		// Not reported as missing: with a new data folder the filter has been
		// counting for long.
		return telemetry.Applied{}, addGap(tx, b, 1, seq-1)
	}
	if err != nil {
		return telemetry.Applied{}, err
	}
	if _, err := tx.Exec("UPDATE vm SET seq=max(seq,?), seen=max(seen,?) WHERE node=? AND vm=?", seq, now, b.Node, b.VM); err != nil {
		return telemetry.Applied{}, err
	}
	if seq > last {
		return telemetry.Applied{Missing: uint64(seq - last - 1)}, addGap(tx, b, last+1, seq-1)
	}
	var first, end int64
	err = tx.QueryRow("DELETE FROM gap WHERE node=? AND vm=? AND first<=? AND last>=? RETURNING first, last",
		b.Node, b.VM, seq, seq).Scan(&first, &end)
	if errors.Is(err, sql.ErrNoRows) {
		return telemetry.Applied{Duplicate: true}, nil
	}
	if err != nil {
		return telemetry.Applied{}, err
	}
	return telemetry.Applied{Late: true}, errors.Join(addGap(tx, b, first, seq-1), addGap(tx, b, seq+1, end))
}

func addGap(tx *sql.Tx, b *contract.Batch, first, last int64) error {
	if first > last {
		return nil
	}
	if _, err := tx.Exec("INSERT INTO gap (node, vm, first, last) VALUES (?,?,?,?)", b.Node, b.VM, first, last); err != nil {
		return err
	}
	_, err := tx.Exec(`DELETE FROM gap WHERE node=? AND vm=? AND first < (
		SELECT first FROM gap WHERE node=? AND vm=? ORDER BY first DESC LIMIT 1 OFFSET ?)`,
		b.Node, b.VM, b.Node, b.VM, gapLimit-1)
	return err
}
