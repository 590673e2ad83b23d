package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-mesh/seawall/filter/contract"
)

// exec1 runs SQL on a file by a connection of its own.
func exec1(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	require.NoError(t, err)
	_, err = db.Exec(query)
	require.NoError(t, err)
	require.NoError(t, db.Close())
}

func filled(t *testing.T, path string) {
	t.Helper()
	s, err := Open(t.Context(), path)
	require.NoError(t, err)
	for seq := range uint64(3) {
		_, err = s.Apply(t.Context(), time.Unix(1_800_000_000, 0), []contract.Batch{benchBatch(seq+1, 30_000_000, 50)})
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	files, err := migrations.ReadDir("migrations")
	require.NoError(t, err)
	newest := len(files)
	for n, f := range files {
		require.Regexp(t, fmt.Sprintf(`^%04d_`, n+1), f.Name(), "a file's number is what user_version counts")
	}
	for name, tc := range map[string]struct {
		make   func(t *testing.T, path string)
		reason error
		text   string
	}{
		"another kind of file": {func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("hello, world: this is text"), 0o600))
		}, ErrNotDatabase, "is not a Seawall database: choose another data folder"},
		"a short file": {func(t *testing.T, path string) {
			require.NoError(t, os.WriteFile(path, []byte("SQLite"), 0o600))
		}, ErrNotDatabase, "is not a Seawall database"},
		"another program's database": {func(t *testing.T, path string) {
			exec1(t, path, "CREATE TABLE theirs (x)")
		}, ErrNotDatabase, "is not a Seawall database"},
		"a folder": {func(t *testing.T, path string) {
			require.NoError(t, os.Mkdir(path, 0o700))
		}, ErrUnavailable, "cannot be opened"},
		"no folder": {func(t *testing.T, path string) {
			require.NoError(t, os.Remove(filepath.Dir(path)))
		}, ErrUnavailable, "check that the folder exists"},
		"a newer schema": {func(t *testing.T, path string) {
			filled(t, path)
			exec1(t, path, "PRAGMA user_version=99")
		}, ErrNewerSchema, fmt.Sprintf("was written by a newer Seawall (schema 99, this one knows up to %d): run that version", newest)},
		"damage in the middle": {func(t *testing.T, path string) {
			filled(t, path)
			exec1(t, path, "PRAGMA wal_checkpoint(TRUNCATE)")
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			require.NoError(t, err)
			info, err := f.Stat()
			require.NoError(t, err)
			for at := int64(4096 * 2); at < info.Size(); at += 4096 {
				_, err = f.WriteAt([]byte(strings.Repeat("\xff", 512)), at)
				require.NoError(t, err)
			}
			require.NoError(t, f.Close())
		}, ErrCorrupt, "restore a copy, or move it and its -wal and -shm files away"},
		"cut off": {func(t *testing.T, path string) {
			filled(t, path)
			exec1(t, path, "PRAGMA wal_checkpoint(TRUNCATE)")
			require.NoError(t, os.Truncate(path, 4096*3))
		}, ErrCorrupt, "is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "data", "seawall.db")
			require.NoError(t, os.Mkdir(filepath.Dir(path), 0o700))
			tc.make(t, path)
			_, err := Open(t.Context(), path)
			require.ErrorIs(t, err, tc.reason)
			var e *OpenError
			require.ErrorAs(t, err, &e)
			require.Equal(t, path, e.Path)
			require.Contains(t, err.Error(), tc.text)
			require.Contains(t, err.Error(), path)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestOpenTakesAnEmptyFileAndOddPaths(t *testing.T) {
	for _, name := range []string{"seawall.db", "a b?c#d%20&e=f.db", "ünï.db"} {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		filled(t, path)
		info, err := os.Stat(path)
		require.NoError(t, err, name)
		require.Positive(t, info.Size(), name)
		open(t, path)
	}
}

// TestReadOnly runs as an ordinary user, whom permissions bind; root would
// just write.
func TestReadOnly(t *testing.T) {
	if path := os.Getenv("SEAWALL_TEST_OPEN"); path != "" {
		s, err := Open(context.Background(), path)
		if err == nil {
			_ = s.Close()
		}
		fmt.Println("OPEN:", err)
		return
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		require.NoError(t, os.Chmod(d, 0o755)) //nolint:gosec // another user must get in
	}
	self, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	binary := filepath.Join(dir, "test")
	require.NoError(t, os.WriteFile(binary, self, 0o755)) //nolint:gosec // another user must run it

	asUser := func(path string) string {
		cmd := exec.Command(binary, "-test.run", "^TestReadOnly$")
		cmd.Env = append(os.Environ(), "SEAWALL_TEST_OPEN="+path)
		cmd.Dir = "/"
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		_, line, _ := strings.Cut(string(out), "OPEN: ")
		line, _, _ = strings.Cut(line, "\n")
		return line
	}
	data := filepath.Join(dir, "data")
	path := filepath.Join(data, "seawall.db")
	require.NoError(t, os.Mkdir(data, 0o700))
	filled(t, path)
	// The file can be read, nothing can be written.
	require.NoError(t, os.Chmod(path, 0o444)) //nolint:gosec // the point of the test
	require.NoError(t, os.Chmod(data, 0o555)) //nolint:gosec // the point of the test
	t.Cleanup(func() { require.NoError(t, os.Chmod(data, 0o700)) })
	require.Regexp(t, `^data file .* cannot be written .*: make the file and its folder writable`, asUser(path))
	require.Regexp(t, `^data file .*new\.db cannot be .*: `, asUser(filepath.Join(data, "new.db")))
	// Nothing can be read either.
	require.NoError(t, os.Chmod(path, 0o000))
	require.Regexp(t, `^data file .* cannot be written .*: make the file and its folder writable`, asUser(path))
}

func TestSeriesAreLimitedAndCounted(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "seawall.db"))
	s.seriesLimit = 10
	at := time.Unix(1_800_000_000, 0)
	done, err := s.Apply(t.Context(), at, []contract.Batch{benchBatch(1, 30_000_000, 12), benchBatch(2, 30_000_000, 10)})
	require.NoError(t, err)
	require.EqualValues(t, 2*104, done[0].Dropped)
	require.Zero(t, done[1].Dropped)
	require.Len(t, s.series, 10)
}

// TestAFailedTransactionLeavesNoTrace: series that it created must not be
// remembered with numbers that the file does not have.
func TestAFailedTransactionLeavesNoTrace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seawall.db")
	s := open(t, path)
	at := time.Unix(1_800_000_000, 0)
	minute := at.Unix() / 60
	_, err := s.write.Exec("CREATE TEMP TRIGGER fail BEFORE INSERT ON tally BEGIN SELECT raise(ABORT, 'no'); END")
	require.NoError(t, err)
	_, err = s.Apply(t.Context(), at, []contract.Batch{benchBatch(1, minute, 2)})
	require.ErrorContains(t, err, "no")
	require.Empty(t, s.series)
	_, err = s.write.Exec("DROP TRIGGER fail")
	require.NoError(t, err)
	done, err := s.Apply(t.Context(), at, []contract.Batch{benchBatch(1, minute, 3)})
	require.NoError(t, err)
	require.False(t, done[0].Duplicate)
	sums, err := s.Sums(t.Context(), []int64{minute, minute + 1}, true)
	require.NoError(t, err)
	require.Len(t, sums[0].Cells, 9)
}

// TestCover: every minute exactly once, and in few pieces.
func TestCover(t *testing.T) {
	g := grid{rolled: [levels]int64{0, 30_000_000, 29_999_980 - 29_999_980%60, 29_999_000 - 29_999_000%1440}}
	rolled := map[int64]int64{10: g.rolled[1], 60: g.rolled[2], 1440: g.rolled[3]}
	for name, tc := range map[string]struct {
		from, to int64
		pieces   int
	}{
		"a month to now":   {30_000_003 - 30*1440, 30_000_004, 9},
		"a day not summed": {29_999_990, 30_000_004, 3},
		"one minute":       {29_000_001, 29_000_002, 1},
		"nothing":          {29_000_001, 29_000_001, 0},
		"backwards":        {29_000_002, 29_000_001, 0},
		"in the future":    {30_000_010, 30_100_010, 1},
	} {
		parts := g.cover(tc.from, tc.to)
		at := tc.from
		for _, p := range parts {
			require.Equal(t, at, p.from, name)
			require.Zero(t, p.from%p.span, name)
			require.Zero(t, p.to%p.span, name)
			if p.span > 1 {
				require.LessOrEqual(t, p.to, rolled[p.span], name)
			}
			at = p.to
		}
		require.Equal(t, max(tc.from, tc.to), max(at, tc.from, tc.to), name)
		if tc.from < tc.to {
			require.Equal(t, tc.to, at, name)
		}
		require.LessOrEqual(t, len(parts), tc.pieces, name)
	}
}
