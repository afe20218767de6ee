// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin

package rootfs

func xattrs(string) []string { return nil }
