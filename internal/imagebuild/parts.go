// SPDX-License-Identifier: Apache-2.0

package imagebuild

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/eif/eifinit"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/reason"
)

// DefaultBlobs is where AWS's package aws-nitro-enclaves-cli-devel puts the blobs,
// and nitro-cli looks for them unless NITRO_CLI_BLOBS names another folder.
const DefaultBlobs = "/usr/share/nitro_enclaves/blobs"

// The blobs' names in AWS's package.
const (
	cmdlineBlob = "cmdline"
	initBlob    = "init"
	nsmKoBlob   = "nsm.ko"
)

func kernelBlob(arch eif.Arch) string {
	if arch == eif.ArchAArch64 {
		return "Image"
	}
	return "bzImage"
}

func otherArch(arch eif.Arch) eif.Arch {
	if arch == eif.ArchAArch64 {
		return eif.ArchX86_64
	}
	return eif.ArchAArch64
}

// parts are what an image has besides the program's tree.
type parts struct {
	kernel, init, nsmKo eifbuild.Content
	awsInit             bool
	cmdline             string
	// system and version are those of the kernel, as its configuration says.
	system, version string
	standIns        []string
	warnings        []string
}

func (p *parts) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// findParts finds all parts that a request names, or that are in its folder.
func (r *Request) findParts() (*parts, error) {
	p := &parts{system: "Linux", version: "unknown"}
	folder, err := r.blobsFolder()
	if err != nil {
		return nil, err
	}
	for _, find := range []func(p *parts, folder string) error{r.findKernel, r.findInit, r.findDriver, r.findCmdline} {
		if err := find(p, folder); err != nil {
			return nil, err
		}
	}
	p.lintCmdline()
	return p, nil
}

// blobsFolder returns the folder that has the blobs for the architecture.
func (r *Request) blobsFolder() (string, error) {
	if r.Blobs == "" {
		return "", nil
	}
	if info, err := os.Stat(r.Blobs); err != nil {
		return "", err
	} else if !info.IsDir() {
		return "", fmt.Errorf("%s is no folder with blobs", r.Blobs)
	}
	for _, dir := range []string{r.Blobs, filepath.Join(r.Blobs, r.Arch.String())} {
		if exists(filepath.Join(dir, kernelBlob(r.Arch))) {
			return dir, nil
		}
	}
	if other := otherArch(r.Arch); r.Kernel == "" && exists(filepath.Join(r.Blobs, kernelBlob(other))) {
		return "", cli.WithHint(fmt.Errorf("the blobs in %s are for %v, the image is for %v", r.Blobs, other, r.Arch), "--arch %v", other)
	}
	return r.Blobs, nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// find returns the content of the named file, or else of the blob if it is
// there. No file is the zero Content.
func find(named, folder, blob string) (eifbuild.Content, string, error) {
	if named != "" {
		c, err := eifbuild.FileContent(named)
		if err == nil && c.Size == 0 {
			err = fmt.Errorf("%s is empty", named)
		}
		return c, named, err
	}
	if folder == "" {
		return eifbuild.Content{}, "", nil
	}
	name := filepath.Join(folder, blob)
	c, err := eifbuild.FileContent(name)
	if errors.Is(err, fs.ErrNotExist) {
		return c, "", nil
	}
	if err == nil && c.Size == 0 {
		err = fmt.Errorf("%s is empty", name)
	}
	return c, name, err
}

func (r *Request) findKernel(p *parts, folder string) (err error) {
	var name string
	if p.kernel, name, err = find(r.Kernel, folder, kernelBlob(r.Arch)); err != nil {
		return err
	}
	if name == "" {
		if !r.StandIns {
			return cli.WithHint(errors.New("there is no kernel for the image"),
				"--blobs DIR or NITRO_CLI_BLOBS names a folder with AWS's %s, init, nsm.ko and cmdline (Amazon Linux: package aws-nitro-enclaves-cli-devel); --allow-stand-in-kernel makes an image that does not boot",
				kernelBlob(r.Arch))
		}
		p.kernel = eifbuild.StandIn("kernel")
		p.system, p.version = "stand-in", "stand-in"
		p.standIns = append(p.standIns, "kernel")
		return nil
	}
	if err := p.checkKernel(name, r.Arch); err != nil {
		return err
	}
	config := r.KernelConfig
	if config == "" && exists(name+".config") {
		config = name + ".config"
	}
	if config == "" {
		p.warn("there is no %s.config, so the metadata do not say which kernel this is", filepath.Base(name))
		return nil
	}
	p.system, p.version, err = kernelVersion(config)
	return err
}

// checkKernel looks for the marks of a kernel of either architecture:
// Documentation/arch/x86/boot.rst and Documentation/arch/arm64/booting.rst.
func (p *parts) checkKernel(name string, arch eif.Arch) error {
	head, err := headOf(p.kernel, 0x206)
	if err != nil {
		return err
	}
	isX86 := len(head) >= 0x206 && string(head[0x202:0x206]) == "HdrS"
	isARM := len(head) >= 60 && string(head[56:60]) == "ARM\x64"
	switch {
	case isX86 && arch != eif.ArchX86_64, isARM && arch != eif.ArchAArch64:
		return cli.WithHint(reason.New(reason.Mismatch, "imagebuild.arch", "%s is a kernel for %v, the image is for %v", name, otherArch(arch), arch),
			"--arch %v", otherArch(arch))
	case !isX86 && !isARM:
		p.warn("%s is no kernel that enclaves are known to boot: it has the marks of neither a bzImage for x86_64 nor an uncompressed Image for aarch64", name)
	}
	return nil
}

func headOf(c eifbuild.Content, n int64) ([]byte, error) {
	f, err := c.Open()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, n))
}

// kernelVersion reads the third line of a kernel's configuration, such as
// "# Linux/x86_64 4.14.256 Kernel Configuration", as nitro-cli does.
func kernelVersion(config string) (system, version string, err error) {
	f, err := os.Open(config)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return "", "", err
	}
	lines := strings.SplitN(string(head), "\n", 4)
	if len(lines) == 4 {
		words := strings.FieldsFunc(lines[2], func(c rune) bool { return c == ' ' || c == '/' || c == '-' || c == '\r' })
		if len(words) > 3 {
			return words[1], words[3], nil
		}
	}
	return "", "", fmt.Errorf("%s: the third line names no kernel", config)
}

func (r *Request) findInit(p *parts, folder string) (err error) {
	own := eifinit.Binary(r.Arch)
	if r.Mode == eifbuild.Normalised && r.Init == "" {
		p.init = eifbuild.Bytes(own)
		return nil
	}
	var name string
	if p.init, name, err = find(r.Init, folder, initBlob); err != nil {
		return err
	}
	if name == "" {
		if !r.StandIns {
			return cli.WithHint(errors.New("there is no init for the image"), "--blobs DIR names a folder with AWS's init, --init FILE the file")
		}
		p.init, p.awsInit = eifbuild.StandIn("init"), true
		p.standIns = append(p.standIns, "init")
		return nil
	}
	if err := p.checkELF(p.init, name, r.Arch); err != nil {
		return err
	}
	head, err := headOf(p.init, int64(len(own))+1)
	p.awsInit = !bytes.Equal(head, own)
	return err
}

func (r *Request) findDriver(p *parts, folder string) (err error) {
	var name string
	if p.nsmKo, name, err = find(r.NSMKo, folder, nsmKoBlob); err != nil {
		return err
	}
	if name == "" {
		if len(p.standIns) == 0 {
			p.warn("there is no nsm.ko: without one only a kernel that has the driver built in (6.8 and later) can attest")
		}
		return nil
	}
	return p.checkELF(p.nsmKo, name, r.Arch)
}

// checkELF refuses a program or module for the other architecture (e_machine of
// elf(5)), and warns of one for neither.
func (p *parts) checkELF(c eifbuild.Content, name string, arch eif.Arch) error {
	head, err := headOf(c, 20)
	if err != nil || len(head) < 20 || string(head[:4]) != "\x7fELF" {
		return err
	}
	machines := map[byte]eif.Arch{0x3e: eif.ArchX86_64, 0xb7: eif.ArchAArch64}
	is, known := machines[head[18]]
	if !known || head[19] != 0 {
		p.warn("%s is neither for x86_64 nor for aarch64, and will not start in an enclave", name)
	} else if is != arch {
		return reason.New(reason.Mismatch, "imagebuild.arch", "%s is not for %v", name, arch)
	}
	return nil
}

func (r *Request) findCmdline(p *parts, folder string) error {
	p.cmdline = r.Cmdline
	if p.cmdline != "" || folder == "" {
		return nil
	}
	c, name, err := find("", folder, cmdlineBlob)
	if err != nil || name == "" {
		return err
	}
	data, err := headOf(c, 64<<10)
	p.cmdline = strings.TrimSpace(string(data))
	return err
}

// maxCmdline is COMMAND_LINE_SIZE of both architectures, without the NUL.
const maxCmdline = 2047

// lintCmdline warns of what is likely to be a mistake.
func (p *parts) lintCmdline() {
	if p.cmdline == "" {
		return
	}
	if len(p.cmdline) > maxCmdline {
		p.warn("the kernel's command line has %d bytes; the kernel cuts it after %d", len(p.cmdline), maxCmdline)
	}
	words := strings.Fields(p.cmdline)
	has := func(prefix string) bool {
		for _, w := range words {
			if strings.HasPrefix(w, prefix) {
				return true
			}
		}
		return false
	}
	for _, prefix := range []string{"init=", "rdinit=", "initrd="} {
		if has(prefix) {
			p.warn("the kernel's command line has %q: another program than the image's init would be started", prefix)
		}
	}
	if !has("panic=") || !has("reboot=") {
		p.warn("the kernel's command line lacks panic= or reboot=: an enclave that fails would hang instead of ending")
	}
	if strings.ContainsFunc(p.cmdline, func(c rune) bool { return c < ' ' || c > '~' }) {
		p.warn("the kernel's command line has characters that are not printable ASCII")
	}
}
