package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	sqlite3 "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// applicationID marks the file as ours: "SWAL".
	applicationID = 0x5357414C

	// checkBelow is the size up to which Open checks every page. Larger files
	// would hold up the start by seconds; damage there shows at first use.
	checkBelow = 256 << 20

	readers = 4
)

// Why a file cannot serve as the store. An *OpenError matches one of them.
var (
	ErrNotDatabase = errors.New("is not a Seawall database")
	ErrCorrupt     = errors.New("is damaged")
	ErrNewerSchema = errors.New("was written by a newer Seawall")
	ErrReadOnly    = errors.New("cannot be written")
	ErrUnavailable = errors.New("cannot be opened")
)

var hints = map[error]string{
	ErrNotDatabase: "choose another data folder, or move the file away",
	ErrCorrupt:     "restore a copy, or move it and its -wal and -shm files away to start with empty counts",
	ErrNewerSchema: "run that version, or choose another data folder",
	ErrReadOnly:    "make the file and its folder writable for this user, or choose another data folder",
	ErrUnavailable: "check that the folder exists, that its disk has room, and that no other program holds the file",
}

// OpenError says why a file cannot serve as the store, and what to do, in one
// line. It matches its reason (ErrCorrupt and the like) and its cause.
type OpenError struct {
	Path   string
	Reason error // one of the Err variables of this package
	Cause  error // may be nil
}

// Error is one line: what is wrong with the file, and what to do.
func (e *OpenError) Error() string {
	text := "data file " + e.Path + " " + e.Reason.Error()
	if e.Cause != nil {
		text += " (" + strings.Join(strings.Fields(e.Cause.Error()), " ") + ")"
	}
	return text + ": " + hints[e.Reason]
}

// Unwrap returns the reason and the cause, for errors.Is.
func (e *OpenError) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Cause}
}

// Open opens the file, or creates it in an existing folder, and brings its
// schema up to date. What is wrong with the file itself is an *OpenError.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := inspect(path); err != nil {
		return nil, err
	}
	s := &Store{path: path, seriesLimit: seriesLimit}
	if err := s.open(ctx); err != nil {
		_ = s.Close()
		if _, known := errors.AsType[*OpenError](err); known {
			return nil, err
		}
		return nil, &OpenError{Path: path, Reason: reason(err), Cause: err}
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	err := functions()
	if err != nil {
		return fmt.Errorf("functions: %w", err)
	}
	if s.write, err = connect(s.path, 1, "_txlock=immediate"); err != nil {
		return err
	}
	if s.read, err = connect(s.path, readers, "_pragma=query_only(1)"); err != nil {
		return err
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	for _, db := range []*sql.DB{s.write, s.read} {
		if err := assertPragmas(ctx, db); err != nil {
			return err
		}
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	return s.loadSeries(ctx)
}

// inspect refuses early what SQLite would report less clearly.
func inspect(path string) error {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// SQLite says "unable to open database file" for a missing folder.
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return &OpenError{Path: path, Reason: ErrUnavailable, Cause: err}
		}
		return nil
	case errors.Is(err, fs.ErrPermission):
		return &OpenError{Path: path, Reason: ErrReadOnly, Cause: err}
	case err != nil:
		return &OpenError{Path: path, Reason: ErrUnavailable, Cause: err}
	}
	defer f.Close()
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	switch {
	case errors.Is(err, io.EOF):
		return nil // empty: created, not yet written
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return &OpenError{Path: path, Reason: ErrUnavailable, Cause: err}
	}
	if string(head[:n]) != "SQLite format 3\x00" {
		return &OpenError{Path: path, Reason: ErrNotDatabase}
	}
	return nil
}

// connect makes a pool whose connections are all set up alike. The driver
// ignores parameters that it does not know, so assertPragmas reads them back.
func connect(path string, conns int, extra string) (*sql.DB, error) {
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + strings.Join([]string{
		"_pragma=busy_timeout(5000)",
		"_pragma=journal_mode(WAL)",
		"_pragma=synchronous(FULL)",
		"_pragma=foreign_keys(1)",
		"_pragma=journal_size_limit(67108864)",
		extra,
	}, "&")
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

func assertPragmas(ctx context.Context, db *sql.DB) error {
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
		var got string
		if err := db.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&got); err != nil {
			return fmt.Errorf("pragma %s: %w", pragma, err)
		}
		if got != want {
			return fmt.Errorf("pragma %s is %s, not %s", pragma, got, want)
		}
	}
	return nil
}

// migrate applies the migrations that the file lacks, each in a transaction of
// its own together with its number.
func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	var id, version, objects int
	row := s.write.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id),
		(SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)`)
	if err := row.Scan(&id, &version, &objects); err != nil {
		return err
	}
	if id != applicationID && (id != 0 || version != 0 || objects > 0) {
		return &OpenError{Path: s.path, Reason: ErrNotDatabase}
	}
	if version > len(files) {
		return &OpenError{Path: s.path, Reason: ErrNewerSchema,
			Cause: fmt.Errorf("schema %d, this one knows up to %d", version, len(files))}
	}
	for i := version; i < len(files); i++ {
		text, err := migrations.ReadFile(files[i])
		if err != nil {
			return err
		}
		if err := s.inTx(func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, string(text)+
				"\nPRAGMA application_id="+strconv.Itoa(applicationID)+";PRAGMA user_version="+strconv.Itoa(i+1))
			return err
		}); err != nil {
			return fmt.Errorf("migration %s: %w", filepath.Base(files[i]), err)
		}
	}
	// An up-to-date file that cannot be written would fail at the first batch.
	return s.inTx(func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "PRAGMA user_version="+strconv.Itoa(max(version, len(files))))
		return err
	})
}

func (s *Store) check(ctx context.Context) error {
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	if info.Size() > checkBelow {
		return nil
	}
	var verdict string
	if err := s.read.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return &OpenError{Path: s.path, Reason: ErrCorrupt, Cause: errors.New(verdict)}
	}
	return nil
}

// reason sorts the engine's errors.
func reason(err error) error {
	var e *sqlite3.Error
	if !errors.As(err, &e) {
		return ErrUnavailable
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_NOTADB:
		return ErrNotDatabase
	case lib.SQLITE_CORRUPT:
		return ErrCorrupt
	case lib.SQLITE_READONLY, lib.SQLITE_PERM:
		return ErrReadOnly
	}
	return ErrUnavailable
}
