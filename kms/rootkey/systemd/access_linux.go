// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFile opens a regular file, not through a symbolic link, and checks it.
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err == nil {
		err = checkAccess(f, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// checkAccess accepts what systemd makes for a service: a file or folder of
// root or of the service's user, for nobody else; where it is root's, the user
// of the service is let in by an access control list.
func checkAccess(f *os.File, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%w: %s: owner unknown", ErrOpenToOthers, f.Name())
	}
	euid := uint32(os.Geteuid())
	if stat.Uid != 0 && stat.Uid != euid {
		return fmt.Errorf("%w: %s belongs to uid %d, this process runs as uid %d", ErrOpenToOthers, f.Name(), stat.Uid, euid)
	}
	perm := info.Mode().Perm()
	if perm&0o077 == 0 {
		return nil
	}
	// With an access control list the group's bits are its mask (acl(5)).
	if perm&0o027 == 0 {
		acl, err := readACL(f)
		if err != nil {
			return err
		}
		if onlyUser(acl, euid) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s has mode %04o", ErrOpenToOthers, f.Name(), perm)
}

// readACL returns the attribute of the access control list, nil if there is
// none.
func readACL(f *os.File) ([]byte, error) {
	buf := make([]byte, 1024) // more than a list that is accepted has
	n, err := unix.Fgetxattr(int(f.Fd()), "system.posix_acl_access", buf)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ERANGE) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// Tags of the entries of a list and its version (posix_acl_xattr.h).
const (
	aclVersion  = 2
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclMask     = 0x10
	aclOther    = 0x20
)

// onlyUser reports whether the list lets in nobody but the owner and the user
// uid, and that one not to write.
func onlyUser(acl []byte, uid uint32) bool {
	const head, entry = 4, 8
	if len(acl) < head || (len(acl)-head)%entry != 0 || binary.LittleEndian.Uint32(acl) != aclVersion {
		return false
	}
	var seen uint16
	for e := acl[head:]; len(e) > 0; e = e[entry:] {
		tag, perm := binary.LittleEndian.Uint16(e), binary.LittleEndian.Uint16(e[2:])
		seen |= tag
		switch tag {
		case aclUserObj, aclMask:
		case aclUser:
			if binary.LittleEndian.Uint32(e[4:]) != uid || perm&2 != 0 {
				return false
			}
		case aclGroupObj, aclOther:
			if perm != 0 {
				return false
			}
		default: // a named group, or what is not known
			return false
		}
	}
	const whole = aclUserObj | aclUser | aclGroupObj | aclMask | aclOther
	return seen == whole
}
