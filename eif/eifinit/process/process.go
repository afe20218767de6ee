// SPDX-License-Identifier: Apache-2.0

// Package process is the file "process" at the top of a normalised image's
// application ramdisk: what the init of such images starts, and as whom.
//
// The file is a sequence of records, each "key=value" and a NUL:
//
//	arg=VALUE          one or more: the command and its arguments
//	env=NAME=VALUE     any number
//	dir=/PATH          one: the working directory
//	uid=N gid=N        one each, decimal without leading zeros
//	group=N            any number: supplementary groups
//
// in exactly this order. Values hold any byte but NUL, newlines too. One process
// has one encoding, so that equal processes have equal measurements.
//
// The package imports next to nothing, because init is linked from it.
package process

import (
	"errors"
	"strconv"
	"strings"
)

// FileName is the file's name in the application ramdisk.
const FileName = "process"

// What the kernel takes: execve(2) and setgroups(2).
const (
	// MaxSize bounds the whole file, and so arguments and environment together,
	// for which the kernel has 2 MiB.
	MaxSize = 1 << 20
	// maxString is the kernel's MAX_ARG_STRLEN without the NUL.
	maxString = 128<<10 - 1
	// maxPath is the kernel's PATH_MAX without the NUL.
	maxPath = 4095
	// maxGroups is the kernel's NGROUPS_MAX.
	maxGroups = 65536
	// noID is (uid_t)-1, which system calls take for "unchanged".
	noID = 1<<32 - 1
)

// A Process is what init starts.
type Process struct {
	// Args are the command and its arguments. A command without a slash is looked
	// for in the PATH of Env.
	Args []string
	// Env has NAME=value, each name once.
	Env []string
	// Dir is the working directory, an absolute path.
	Dir string
	// UID, GID and Groups are whom it runs as. 4294967295 is nobody's number.
	UID, GID uint32
	Groups   []uint32
}

// Encode returns the file. It refuses what [Parse] would refuse.
func (p Process) Encode() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	var out []byte
	record := func(key, value string) {
		out = append(append(append(append(out, key...), '='), value...), 0)
	}
	for _, a := range p.Args {
		record("arg", a)
	}
	for _, e := range p.Env {
		record("env", e)
	}
	record("dir", p.Dir)
	record("uid", decimal(p.UID))
	record("gid", decimal(p.GID))
	for _, g := range p.Groups {
		record("group", decimal(g))
	}
	if len(out) > MaxSize {
		return nil, errors.New("process: " + strconv.Itoa(len(out)) + " bytes; the limit is " + strconv.Itoa(MaxSize))
	}
	return out, nil
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func (p *Process) check() error {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return errors.New("process: there is no command")
	}
	for _, a := range p.Args {
		if err := checkString("an argument", a, maxString); err != nil {
			return err
		}
	}
	names := make(map[string]bool)
	for _, e := range p.Env {
		if err := checkString("a variable", e, maxString); err != nil {
			return err
		}
		name, _, ok := strings.Cut(e, "=")
		if !ok || name == "" {
			return errors.New("process: a variable of the environment is not NAME=value")
		}
		if names[name] {
			return errors.New("process: the environment has " + quote(name) + " twice")
		}
		names[name] = true
	}
	if err := checkString("the working directory", p.Dir, maxPath); err != nil {
		return err
	}
	if !strings.HasPrefix(p.Dir, "/") {
		return errors.New("process: the working directory " + quote(p.Dir) + " is no absolute path")
	}
	return p.checkIDs()
}

func (p *Process) checkIDs() error {
	if len(p.Groups) > maxGroups {
		return errors.New("process: " + strconv.Itoa(len(p.Groups)) + " groups; the kernel takes " + strconv.Itoa(maxGroups))
	}
	for _, id := range append([]uint32{p.UID, p.GID}, p.Groups...) {
		if id == noID {
			return errors.New("process: 4294967295 is no user and no group")
		}
	}
	return nil
}

func checkString(what, s string, limit int) error {
	if len(s) > limit {
		return errors.New("process: " + what + " has " + strconv.Itoa(len(s)) + " bytes; the kernel takes " + strconv.Itoa(limit))
	}
	if strings.IndexByte(s, 0) >= 0 {
		return errors.New("process: " + what + " holds a NUL")
	}
	return nil
}

// quote shows a string of any length and content on one line.
func quote(s string) string { return strconv.Quote(s[:min(len(s), 60)]) }

// Parse reads a file. Nothing but what [Process.Encode] makes is accepted.
func Parse(file []byte) (Process, error) {
	if len(file) > MaxSize {
		return Process{}, errors.New("process: " + strconv.Itoa(len(file)) + " bytes; the limit is " + strconv.Itoa(MaxSize))
	}
	if len(file) == 0 {
		return Process{}, errors.New("process: the file is empty")
	}
	if file[len(file)-1] != 0 {
		return Process{}, errors.New("process: the file does not end in NUL")
	}
	r := reader{records: strings.Split(string(file[:len(file)-1]), "\x00")}
	var p Process
	p.Args = r.all("arg")
	p.Env = r.all("env")
	p.Dir = r.one("dir")
	p.UID = r.id(r.one("uid"))
	p.GID = r.id(r.one("gid"))
	for _, g := range r.all("group") {
		p.Groups = append(p.Groups, r.id(g))
	}
	if r.err == nil && len(r.records) > 0 {
		r.err = errors.New("process: the record " + quote(r.records[0]) + " is unknown or out of order")
	}
	if r.err == nil {
		r.err = p.check()
	}
	if r.err != nil {
		return Process{}, r.err
	}
	return p, nil
}

// A reader takes records from the front and remembers the first error.
type reader struct {
	records []string
	err     error
}

// all takes as many records with this key as come next.
func (r *reader) all(key string) []string {
	var values []string
	for len(r.records) > 0 {
		value, ok := strings.CutPrefix(r.records[0], key+"=")
		if !ok {
			break
		}
		values = append(values, value)
		r.records = r.records[1:]
	}
	return values
}

// one takes the one record with this key.
func (r *reader) one(key string) string {
	values := r.all(key)
	if len(values) == 1 {
		return values[0]
	}
	if r.err == nil && len(values) == 0 && len(r.records) > 0 {
		r.err = errors.New("process: " + quote(r.records[0]) + " is where the record " + key + " belongs")
	} else if r.err == nil {
		r.err = errors.New("process: " + strconv.Itoa(len(values)) + " records " + key + ", not one")
	}
	return ""
}

func (r *reader) id(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if r.err == nil && (err != nil || decimal(uint32(n)) != s) {
		r.err = errors.New("process: " + quote(s) + " is no number of a user or group")
	}
	return uint32(n)
}
