// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"slices"
	"strconv"
	"strings"
)

// maxAccounts bounds /etc/passwd and /etc/group of an image.
const maxAccounts = 1 << 20

// A user is whom the program runs as.
type user struct {
	uid, gid uint32
	groups   []uint32 // further ones
	home     string
}

// user resolves what an image's configuration says: a name or number, and after
// a colon the name or number of a group. The rules are those of runc, which
// Docker and containerd follow (and OCI's image specification leaves open): the
// first line of /etc/passwd with that name or number counts; a number without a
// line is taken as it is, with group 0; without a group given, the user is in all
// groups of /etc/group that list the name; with one, in that alone.
func (t *tree) user(spec string) (user, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if strings.ContainsAny(spec, "\x00\n") || strings.Contains(group, ":") || hasGroup && group == "" {
		return user{}, malformed("user", "want a user, or a user, a colon and a group")
	}
	found, account, err := t.account(name)
	if err != nil {
		return user{}, err
	}
	switch {
	case hasGroup:
		found.gid, err = t.group(group)
	case account != "":
		found.groups, err = t.memberships(account)
	}
	return found, err
}

// account finds a user, "" being 0. account is the name in /etc/passwd, "" if it
// is not there.
func (t *tree) account(name string) (found user, account string, err error) {
	found.home = "/"
	number, numeric := id(name)
	if name == "" {
		number, numeric = 0, true
	}
	lines, err := t.accounts("etc/passwd")
	if err != nil {
		return user{}, "", err
	}
	for _, line := range lines {
		// name:password:uid:gid:comment:home:shell, passwd(5)
		if len(line) < 4 {
			continue
		}
		uid, ok := id(line[2])
		if !(name != "" && line[0] == name) && !(numeric && ok && uid == number) {
			continue
		}
		gid, gidOK := id(line[3])
		if !ok || !gidOK || line[0] == "" {
			return user{}, "", malformed("user", "the line of /etc/passwd has a name or number that is none")
		}
		found.uid, found.gid = uid, gid
		if len(line) > 5 && line[5] != "" && !strings.ContainsRune(line[5], 0) {
			found.home = line[5]
		}
		return found, line[0], nil
	}
	if !numeric {
		return user{}, "", malformed("user", "there is no such user in the image's /etc/passwd")
	}
	found.uid = number
	return found, "", nil
}

// group finds the number of a group.
func (t *tree) group(name string) (uint32, error) {
	number, numeric := id(name)
	lines, err := t.accounts("etc/group")
	if err != nil {
		return 0, err
	}
	for _, line := range lines {
		// name:password:gid:members, group(5)
		if len(line) < 3 {
			continue
		}
		gid, ok := id(line[2])
		if !(name != "" && line[0] == name) && !(numeric && ok && gid == number) {
			continue
		}
		if !ok {
			return 0, malformed("user", "the line of /etc/group has a number that is none")
		}
		return gid, nil
	}
	if !numeric {
		return 0, malformed("user", "there is no such group in the image's /etc/group")
	}
	return number, nil
}

// memberships returns the groups that list a user, in the order of the file.
func (t *tree) memberships(account string) ([]uint32, error) {
	lines, err := t.accounts("etc/group")
	if err != nil {
		return nil, err
	}
	var groups []uint32
	seen := make(map[uint32]bool)
	for _, line := range lines {
		if len(line) < 4 || !slices.Contains(strings.Split(line[3], ","), account) {
			continue
		}
		gid, ok := id(line[2])
		if !ok {
			return nil, malformed("user", "a line of /etc/group that lists the user has a number that is none")
		}
		if !seen[gid] {
			seen[gid] = true
			groups = append(groups, gid)
		}
	}
	return groups, nil
}

// accounts reads the fields of each line.
func (t *tree) accounts(name string) ([][]string, error) {
	data, err := t.read(name, maxAccounts)
	if err != nil {
		return nil, err
	}
	var lines [][]string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' {
			lines = append(lines, strings.Split(line, ":"))
		}
	}
	return lines, nil
}

// id reads a user's or group's number. Those above 2³¹-1 are none, as with runc;
// the highest of all means "unchanged" to the kernel.
func id(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err == nil
}
