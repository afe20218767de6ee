// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/contents"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
)

type eifListing struct {
	long, asJSON bool
	ramdisk      int
}

func newEIFListCommand(env *cli.Env) *cobra.Command {
	var o eifListing
	cmd := &cobra.Command{
		Use:   "ls FILE",
		Short: "List an image's sections and the files of its ramdisks",
		Long: `List what is in an image: its sections, the kernel's version, the command line,
and the files of each ramdisk, as "cretula eif cat" takes their names. Names come
in the order of the ramdisk, and as often as they are in it; of several the last
one counts.

The file must be well-formed and its checksum right, or nothing is listed and the
exit status says why. A signature need not be good to look inside; if it is not,
a line on standard error says so. A ramdisk that cannot be read is listed as far as
it can, and the exit status says why it cannot.`,
		Example: "  $ cretula eif ls -l app.eif\n  $ cretula eif ls --ramdisk 2 app.eif",
		Args:    exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return listEIF(cmd.Context(), env, args[0], o)
		},
	}
	cmd.Flags().BoolVarP(&o.long, "long", "l", false, "print type, mode, owner, size and time, too")
	cmd.Flags().IntVar(&o.ramdisk, "ramdisk", 0, "list only the files of ramdisk `N`; 1 is the first")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "print a JSON object")
	return cmd
}

// openMeasured opens an image whose checksum is right. A signature that is not
// good, which does not keep anybody from looking, is told on stderr.
func openMeasured(ctx context.Context, env *cli.Env, name string) (*eif.Image, *imageFile, pcr.Measurements, error) {
	im, f, err := openImage(env, name)
	if err != nil {
		return nil, nil, pcr.Measurements{}, err
	}
	m, err := f.measure(ctx, im)
	if err != nil {
		f.Close()
		return nil, nil, pcr.Measurements{}, err
	}
	if s := im.Signature(); s != nil {
		pcr0, _ := m.Get(0)
		if err := s.Verify(pcr0, env.Now()); err != nil {
			fmt.Fprintf(env.Stderr, "note: %s: the signature is not good: %s\n", cli.Printable(name), cli.Printable(err.Error()))
		}
	}
	return im, f, m, nil
}

func listEIF(ctx context.Context, env *cli.Env, name string, o eifListing) error {
	im, f, m, err := openMeasured(ctx, env, name)
	if err != nil {
		return err
	}
	defer f.Close()
	first, last := 1, len(im.Ramdisks())
	if o.ramdisk != 0 {
		if o.ramdisk < 0 || o.ramdisk > last {
			return cli.Usagef("there is no ramdisk %d: the image has %d", o.ramdisk, last)
		}
		first, last = o.ramdisk, o.ramdisk
	}
	kernel, err := contents.ReadKernel(ctx, im)
	if err != nil {
		return inFile(name, err)
	}
	own, err := contents.OwnInit(ctx, im)
	if err != nil {
		return inFile(name, err)
	}
	w := bufio.NewWriter(env.Stdout)
	l := listed{im, m, kernel, own, first, last}
	if o.asJSON {
		err = l.json(ctx, w)
	} else {
		err = l.text(ctx, w, o)
	}
	if flush := w.Flush(); flush != nil {
		return flush
	}
	return inFile(name, err)
}

// A listed image, and which ramdisks of it are.
type listed struct {
	im          *eif.Image
	m           pcr.Measurements
	kernel      contents.Kernel
	init        string // of ramdisk 1, if it is cretula's
	first, last int
}

// text prints sections and entries. The first error of a ramdisk is returned when
// all that can be listed is.
func (l *listed) text(ctx context.Context, w io.Writer, o eifListing) error {
	if o.ramdisk == 0 {
		listSections(w, l.im, l.m, l.kernel)
	}
	var failed error
	for n := l.first; n <= l.last; n++ {
		section, err := contents.Ramdisk(l.im, n)
		if err != nil {
			return err
		}
		if o.ramdisk == 0 {
			note := ""
			if n == 1 && l.init != "" {
				note = "  with " + l.init
			}
			fmt.Fprintf(w, "ramdisk %d  %s bytes%s\n", n, grouped(section.Size()), note)
		}
		err = contents.Walk(ctx, l.im, n, func(e *eifbuild.Entry, _ *eifbuild.Reader) error {
			return listEntry(w, n, e, o.long)
		})
		if failed == nil {
			failed = err
		}
	}
	return failed
}

func listSections(w io.Writer, im *eif.Image, m pcr.Measurements, kernel contents.Kernel) {
	fmt.Fprintf(w, "image      %s bytes  format %d, %v\n", grouped(im.Size()), im.Header.Version, im.Header.Arch)
	for _, s := range im.Sections {
		note := ""
		switch s.Type {
		case eif.Ramdisk:
			continue
		case eif.Kernel:
			note = "  " + kernelInWords(kernel)
			if pcr1, ok := m.Get(1); ok && contents.Release(pcr1) != "" {
				note += "; " + contents.Release(pcr1)
			}
		case eif.Cmdline:
			note = "  " + cli.Printable(im.Cmdline())
		case eif.MetadataSection:
			note = "  (not measured)"
		case eif.SignatureSection:
			note = "  (of it, PCR8 measures the certificate)"
		}
		fmt.Fprintf(w, "%-9v  %s bytes%s\n", s.Type, grouped(s.Size), note)
	}
}

func kernelInWords(k contents.Kernel) string {
	switch {
	case k.Format == "stand-in":
		return "a stand-in that does not boot"
	case k.Banner == "":
		return "of unknown version"
	case k.Format == "":
		return "Linux " + cli.Printable(k.Banner)
	}
	return fmt.Sprintf("Linux %s (%s)", cli.Printable(k.Banner), k.Format)
}

func listEntry(w io.Writer, ramdisk int, e *eifbuild.Entry, long bool) error {
	if !long {
		_, err := fmt.Fprintf(w, "%d:%s\n", ramdisk, cli.Printable(e.Name))
		return err
	}
	size := strconv.FormatInt(e.Content.Size, 10)
	if e.Type == eifbuild.CharDevice || e.Type == eifbuild.BlockDevice {
		size = fmt.Sprintf("%d,%d", e.Major, e.Minor)
	}
	to := ""
	switch e.Type {
	case eifbuild.Symlink:
		to = " -> " + cli.Printable(e.Link)
	case eifbuild.Hardlink:
		to = " is " + cli.Printable(e.Link)
	}
	_, err := fmt.Fprintf(w, "%s %11s %10s %s %d:%s%s\n", modeString(e), fmt.Sprintf("%d:%d", e.UID, e.GID), size,
		time.Unix(e.MTime, 0).UTC().Format(time.RFC3339), ramdisk, cli.Printable(e.Name), to)
	return err
}

// modeString writes type and mode as ls does; "h" is another name for a file.
func modeString(e *eifbuild.Entry) string {
	text := []byte(string("-dlhpcb"[e.Type]) + "rwxrwxrwx")
	for i := range 9 {
		if e.Mode&(1<<(8-i)) == 0 {
			text[1+i] = '-'
		}
	}
	for i, special := range []struct {
		bit       uint32
		with, out byte
	}{{0o4000, 's', 'S'}, {0o2000, 's', 'S'}, {0o1000, 't', 'T'}} {
		if e.Mode&special.bit == 0 {
			continue
		}
		at := 3 + 3*i
		if text[at] == 'x' {
			text[at] = special.with
		} else {
			text[at] = special.out
		}
	}
	return string(text)
}

// grouped writes a number with commas between thousands.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

type listedSection struct {
	Type   string `json:"type"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

type listedKernel struct {
	Format  string `json:"format"`
	Version string `json:"version"`
	Banner  string `json:"banner"`
	// Release names the known kernel and init with this PCR1.
	Release string `json:"release,omitempty"`
}

// json prints one object. Entries are written as they are read, one in a line.
func (l *listed) json(ctx context.Context, w io.Writer) error {
	im, kernel := l.im, l.kernel
	head := struct {
		Schema   string          `json:"schema"`
		Version  uint16          `json:"version"`
		Arch     string          `json:"arch"`
		Size     int64           `json:"size"`
		Kernel   listedKernel    `json:"kernel"`
		Cmdline  string          `json:"cmdline"`
		Sections []listedSection `json:"sections"`
	}{
		Schema: "cretula.eif.ls.v1", Version: im.Header.Version, Arch: im.Header.Arch.String(), Size: im.Size(),
		Kernel:  listedKernel{kernel.Format, kernel.Version(), kernel.Banner, ""},
		Cmdline: im.Cmdline(),
	}
	if pcr1, ok := l.m.Get(1); ok {
		head.Kernel.Release = contents.Release(pcr1)
	}
	for _, s := range im.Sections {
		head.Sections = append(head.Sections, listedSection{s.Type.String(), s.Offset, s.Size})
	}
	var text bytes.Buffer
	if err := (&cli.Env{Stdout: &text}).PrintJSON(head); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s,\n  \"ramdisks\": [", bytes.TrimSuffix(text.Bytes(), []byte("\n}\n")))
	var failed error
	for n := l.first; n <= l.last; n++ {
		if n > l.first {
			fmt.Fprint(w, ",")
		}
		if err := l.ramdiskJSON(ctx, w, n); err != nil && failed == nil {
			failed = err
		}
	}
	fmt.Fprint(w, "\n  ]\n}\n")
	return failed
}

func (l *listed) ramdiskJSON(ctx context.Context, w io.Writer, number int) error {
	fmt.Fprintf(w, "\n    {\n      \"number\": %d,\n", number)
	if number == 1 && l.init != "" {
		fmt.Fprintf(w, "      \"init\": %q,\n", l.init)
	}
	fmt.Fprint(w, "      \"entries\": [")
	separator, compressed := "", false
	failed := contents.Walk(ctx, l.im, number, func(e *eifbuild.Entry, r *eifbuild.Reader) error {
		compressed = r.Compressed()
		line, err := cli.JSON(contents.NewItem(e))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n        %s", separator, line)
		separator = ","
		return err
	})
	if separator != "" {
		fmt.Fprint(w, "\n      ")
	}
	fmt.Fprintf(w, "],\n      \"compressed\": %v", compressed)
	if failed != nil {
		line, err := cli.JSON(failed.Error())
		if err != nil {
			return err
		}
		fmt.Fprintf(w, ",\n      \"error\": %s", line)
	}
	fmt.Fprint(w, "\n    }")
	return failed
}
