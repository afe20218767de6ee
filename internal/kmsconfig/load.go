// SPDX-License-Identifier: Apache-2.0

package kmsconfig

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/rootkeys"
)

// An Error lists what is wrong with a file, by line.
type Error struct {
	File     string
	Problems []Problem
}

// Error has one line per problem, FILE:LINE: message.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = fmt.Sprintf("%s:%d: %s", e.File, p.Line, p.Message)
	}
	return strings.Join(lines, "\n")
}

// Load reads and checks a configuration file. What is wrong in it is an [*Error].
func Load(file string) (*Config, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	c, problems := Parse(data, filepath.Dir(path))
	if len(problems) > 0 {
		return nil, &Error{File: file, Problems: problems}
	}
	c.File = path
	return c, nil
}

// Parse reads and checks the text of a configuration whose relative names of files
// are relative to dir, an absolute path. It returns the configuration, or what is
// wrong with it by line. No other file is looked at.
func Parse(data []byte, dir string) (*Config, []Problem) {
	if len(data) > MaxSize {
		return nil, []Problem{{1, fmt.Sprintf("the file is larger than %d bytes", MaxSize)}}
	}
	w := newWalk()
	w.run(data, reflect.TypeFor[Config]())
	c := defaults()
	if err := decode(data, c); err != nil && len(w.problems) == 0 {
		w.problems = []Problem{*err}
	}
	if len(w.problems) == 0 {
		c.resolve(dir)
		(&checker{walk: w, config: c}).run()
	}
	if len(w.problems) > 0 {
		slices.SortStableFunc(w.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, w.problems
	}
	return c, nil
}

// decode fills in what the file says. The names and types were looked at before;
// what is left is what is no TOML, and numbers that are too large.
func decode(data []byte, c *Config) *Problem {
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(c)
	if err == nil {
		return nil
	}
	line := 1
	if at, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, _ = at.Position()
	}
	return &Problem{line, strings.TrimPrefix(err.Error(), "toml: ")}
}

// resolve makes names of files absolute and fills in those that hang on others.
func (c *Config) resolve(dir string) {
	resolvePaths(reflect.ValueOf(c).Elem(), dir)
	for _, path := range c.rootKeyFiles() {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	if c.DataDir == "" {
		return // refused
	}
	if c.Store.File == "" && c.Store.URL == "" {
		c.Store.File = Path(filepath.Join(string(c.DataDir), datadir.StoreFile))
	}
	if c.Audit.Dir == "" {
		c.Audit.Dir = Path(filepath.Join(string(c.DataDir), datadir.AuditDir))
	}
	if c.Metrics != nil && c.Metrics.Listen == "" {
		c.Metrics.Listen = "127.0.0.1:9420"
	}
}

// resolvePaths makes every [Path] absolute that is not empty.
func resolvePaths(v reflect.Value, dir string) {
	if path, ok := reflect.TypeAssert[Path](v); ok {
		if path != "" && !filepath.IsAbs(string(path)) {
			v.SetString(filepath.Join(dir, string(path)))
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			resolvePaths(v.Elem(), dir)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			resolvePaths(v.Field(i), dir)
		}
	case reflect.Slice:
		for i := range v.Len() {
			resolvePaths(v.Index(i), dir)
		}
	}
}

// rootKeyFiles are the members of the root key that are names of files.
func (c *Config) rootKeyFiles() map[string]*string {
	k := &c.RootKey
	return map[string]*string{
		"file": &k.File, "epoch_file": &k.EpochFile, "passphrase_file": &k.PassphraseFile, "pin_file": &k.PINFile,
		"device": &k.Device, "module": &k.Module, "nsm_socket": &k.NSMSocket,
		"ca_file": &k.CAFile,
	}
}

// Folder is the configuration of a service that has everything in one folder, the
// root key too: what `cretula up` runs. The folder need not be there.
func Folder(dir string) (*Config, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c := defaults()
	c.DataDir, c.Account, c.Emulated = Path(dir), "000000000000", true
	c.RootKey = rootkeys.Spec{Kind: rootkeys.KindFile, File: filepath.Join(dir, datadir.RootKeyFile)}
	c.resolve(dir)
	return c, nil
}
