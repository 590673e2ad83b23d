package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seawall-mesh/seawall/controlplane/diag"
)

// Bounds of one load.
const (
	maxFileBytes  = 4 << 20
	maxTotalBytes = 64 << 20
	maxFiles      = 10_000
	maxObjects    = 10_000
	maxDirDepth   = 64
)

// file is one file to read: the name to show and whether it was named by the
// user, who may then name a pipe.
type file struct {
	name  string
	named bool
}

// finder collects the policy files below some paths, each real file once.
type finder struct {
	files []file
	dirs  []string        // entered, for the watch
	seen  map[string]bool // real paths of files and directories
	limit int             // on files
	full  bool            // the limit was met, and said
	out   diag.List
}

// find lists the files to read in a stable order. The error is about a path
// that the user named; everything else is a finding.
func find(paths []string) (*finder, error) {
	f := &finder{seen: map[string]bool{}, limit: maxFiles}
	return f, f.paths(paths)
}

func (f *finder) paths(paths []string) error {
	for _, path := range paths {
		path = filepath.Clean(path)
		info, err := os.Stat(path)
		if err != nil {
			return pathError(path, err)
		}
		files, dirs := len(f.files), len(f.dirs)
		if info.IsDir() {
			if _, err := os.ReadDir(path); err != nil {
				return pathError(path, err)
			}
			f.directory(path, 0)
		} else if !leftOut(filepath.Base(path), true) && f.first(path) {
			f.files = append(f.files, file{path, true})
		}
		if len(f.dirs) > dirs && len(f.files) == files && len(f.out) == 0 {
			f.nothing(path)
		}
	}
	if len(f.files) == 0 && len(f.out) == 0 && len(paths) > 0 {
		f.nothing(paths[0])
	}
	slices.SortStableFunc(f.files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return nil
}

func (f *finder) nothing(path string) {
	f.out = append(f.out, diag.New(diag.NothingFound, diag.Pos{File: path}, "", "no policy file here: *.yaml or *.yml, neither hidden nor *_test.yaml"))
}

func pathError(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return fmt.Errorf("policy path %s: %w", path, err)
}

// directory adds what is below dir. Symbolic links are followed, but no real
// directory is entered twice, so that a link to a parent ends.
func (f *finder) directory(dir string, depth int) {
	if !f.first(dir) || f.full {
		return
	}
	if depth > maxDirDepth {
		f.out = append(f.out, diag.New(diag.TooMuch, diag.Pos{File: dir}, "", fmt.Sprintf("directories nested more than %d deep", maxDirDepth)))
		return
	}
	f.dirs = append(f.dirs, dir)
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		f.unreadable(dir, err)
		return
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name())
		isDir := e.IsDir()
		if hidden(e.Name()) || (!isDir && e.Type()&fs.ModeSymlink == 0 && leftOut(e.Name(), false)) {
			continue
		}
		if e.Type()&fs.ModeSymlink != 0 {
			info, err := os.Stat(name)
			if err != nil {
				if !leftOut(e.Name(), false) {
					f.unreadable(name, err)
				}
				continue
			}
			isDir = info.IsDir()
		}
		switch {
		case isDir:
			f.directory(name, depth+1)
		case leftOut(e.Name(), false) || !f.first(name):
		default:
			f.files = append(f.files, file{name: name})
		}
		if f.full {
			return
		}
		if len(f.files) > f.limit {
			f.full = true
			f.out = append(f.out, diag.New(diag.TooMuch, diag.Pos{File: dir}, "", fmt.Sprintf("more than %d policy files", f.limit)))
			return
		}
	}
}

// first reports whether the real path behind name is met for the first time.
func (f *finder) first(name string) bool {
	real, err := filepath.EvalSymlinks(name)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		real = name // reading it will say what is wrong
	}
	if f.seen[real] {
		return false
	}
	f.seen[real] = true
	return true
}

func (f *finder) unreadable(name string, err error) {
	f.out = append(f.out, unreadable(name, err))
}

func unreadable(name string, err error) diag.Diagnostic {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return diag.New(diag.FileUnreadable, diag.Pos{File: name}, "", "cannot be read: "+err.Error())
}

func hidden(base string) bool { return strings.HasPrefix(base, ".") || strings.HasSuffix(base, "~") }

// leftOut reports whether a file's name says that it is no policy. A shell
// pattern names test files too, so they are left out even where they are
// named; the extension of a named file is the user's choice.
func leftOut(base string, named bool) bool {
	ext := filepath.Ext(base)
	yes := ext == ".yaml" || ext == ".yml"
	if strings.HasSuffix(strings.TrimSuffix(base, ext), "_test") && yes {
		return true
	}
	return !named && (hidden(base) || !yes)
}

// read returns a file's text, or why it cannot be one.
func read(f file) (string, *diag.Diagnostic) {
	finding := func(code, message string) (string, *diag.Diagnostic) {
		d := diag.New(code, diag.Pos{File: f.name}, "", message)
		return "", &d
	}
	info, err := os.Stat(f.name)
	if err == nil && !f.named && !info.Mode().IsRegular() {
		return finding(diag.FileUnreadable, "is not a regular file") // opening a pipe would wait for ever
	}
	in, err := os.Open(f.name)
	if err != nil {
		d := unreadable(f.name, err)
		return "", &d
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, maxFileBytes+1))
	if err != nil {
		d := unreadable(f.name, err)
		return "", &d
	}
	if len(text) > maxFileBytes {
		return finding(diag.FileTooLarge, "is larger than 4 MiB")
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	return checkText(f.name, string(text))
}

// checkText refuses what is not UTF-8 text, with the place.
func checkText(name, text string) (string, *diag.Diagnostic) {
	line, column := 1, 1
	for i, r := range text {
		what := ""
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			what = "is not UTF-8 text"
		case r < ' ' && r != '\n' && r != '\r' && r != '\t', r == 0x7f:
			what = fmt.Sprintf("has a control character (0x%02x): it is not text", r)
		}
		if what != "" {
			d := diag.New(diag.FileNotText, diag.Pos{File: name, Line: line, Column: column}, "", what)
			return "", &d
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
	}
	return text, nil
}
