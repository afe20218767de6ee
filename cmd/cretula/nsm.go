// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// nsmSocketVariable names the socket of a software NSM.
const nsmSocketVariable = "CRETULA_NSM_SOCKET"

// maxPublicKeyFile is more than any public key in PEM that fits a request.
const maxPublicKeyFile = 1 << 16

func newNSMCommand(env *cli.Env) *cobra.Command {
	noun := newNounCommand("nsm", "Talk to a Nitro Security Module, or run one in software",
		newNSMDescribe(env), newNSMDescribePCR(env), newNSMExtendPCR(env), newNSMLockPCR(env),
		newNSMRandom(env), newNSMAttest(env), newNSMServe(env))
	noun.Long = `Commands to the Nitro Security Module of the enclave that this runs in, /dev/nsm,
or to a software module through its socket: that of --socket, else that of the
variable ` + nsmSocketVariable + `. Where /dev/nsm exists the variable is ignored,
unless --allow-emulated is given.`
	return noun
}

// nsmFlags choose the module.
type nsmFlags struct {
	socket        string
	allowEmulated bool
}

func (f *nsmFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.socket, "socket", "", "`PATH` of a software module's socket")
	cmd.Flags().BoolVar(&f.allowEmulated, "allow-emulated", false, "follow "+nsmSocketVariable+" even where "+nsm.DevicePath+" exists")
}

// choose returns the path of the socket to use, or "" for the device.
func (f *nsmFlags) choose(env *cli.Env, haveDevice bool) string {
	if f.socket != "" {
		return f.socket
	}
	socket := env.Getenv(nsmSocketVariable)
	if socket != "" && haveDevice && !f.allowEmulated {
		fmt.Fprintf(env.Stderr, "%s is ignored: this machine has %s (--allow-emulated follows it)\n", nsmSocketVariable, nsm.DevicePath)
		return ""
	}
	return socket
}

// withClient calls fn with the chosen module; name is its path, emulated tells
// that it is a socket.
func (f *nsmFlags) withClient(env *cli.Env, fn func(client nsm.Client, name string, emulated bool) error) error {
	_, err := os.Stat(nsm.DevicePath)
	socket := f.choose(env, err == nil)
	device, name, err := openNSM(socket)
	if err != nil {
		return err
	}
	defer device.Close()
	return explainNSM(fn(nsm.Client{Device: device}, name, socket != ""))
}

func openNSM(socket string) (nsm.Device, string, error) {
	if socket != "" {
		device, err := nsm.Dial(socket)
		if err != nil {
			err = cli.WithHint(err, "'cretula nsm serve --socket %s' runs a software module there", socket)
		}
		return device, socket, err
	}
	device, err := nsm.Open()
	if r, ok := reason.Of(err); ok && r == reason.Unsupported {
		err = cli.WithHint(err, "run this in an enclave, or name a software module's socket by --socket or %s", nsmSocketVariable)
	}
	return device, nsm.DevicePath, err
}

// explainNSM adds what a refusal means.
func explainNSM(err error) error {
	switch {
	case errors.Is(err, nsm.ReadOnlyIndex):
		return cli.WithHint(err, "the register is locked, and nothing unlocks it; PCR0 to PCR15 are locked from the start")
	case errors.Is(err, nsm.InputTooLarge):
		return cli.WithHint(err, "everything in a request shares its %d bytes", nsm.MaxRequest)
	}
	return err
}

// registerArgument reads the number of a register.
func registerArgument(arg string) (pcr.Index, error) {
	index, err := pcr.ParseIndex(arg)
	return index, asUsage(err)
}

// requestBytes reads a flag's value, hex digits or the bytes of a file after @.
// The result is not nil, and may be as long as a request.
func requestBytes(env *cli.Env, flag, value string) ([]byte, error) {
	name, isFile := strings.CutPrefix(value, "@")
	if !isFile {
		return hexOrFile(env, flag, value)
	}
	data, err := env.ReadInput(name, nsm.MaxRequest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return append([]byte{}, data...), nil
}

func newNSMDescribe(env *cli.Env) *cobra.Command {
	var f nsmFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "describe",
		Short:   "Print the module's name, version and locked registers",
		Example: "  $ cretula nsm describe --json",
		Args:    exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.withClient(env, func(client nsm.Client, name string, emulated bool) error {
				d, err := client.DescribeNSM(cmd.Context())
				if err != nil {
					return err
				}
				return printNSM(env, d, name, emulated, asJSON)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func printNSM(env *cli.Env, d nsm.Description, name string, emulated, asJSON bool) error {
	version := fmt.Sprintf("%d.%d.%d", d.VersionMajor, d.VersionMinor, d.VersionPatch)
	if asJSON {
		locked := make([]int, 0, len(d.LockedPCRs)) // bytes would become base64
		for _, i := range d.LockedPCRs {
			locked = append(locked, int(i))
		}
		return env.PrintJSON(struct {
			Schema   string `json:"schema"`
			Device   string `json:"device"`
			Emulated bool   `json:"emulated"`
			ModuleID string `json:"module_id"`
			Version  string `json:"version"`
			MaxPCRs  uint16 `json:"max_pcrs"`
			Locked   []int  `json:"locked_pcrs"`
			Digest   string `json:"digest"`
		}{"cretula.nsm.v1", name, emulated, d.ModuleID, version, d.MaxPCRs, locked, d.Digest})
	}
	mark := ""
	if emulated {
		mark = "  EMULATED"
	}
	_, err := fmt.Fprintf(env.Stdout, "module     %s\ndevice     %s%s\nversion    %s\nregisters  %d, %s\nlocked     %s\n",
		printable(d.ModuleID), name, mark, version, d.MaxPCRs, d.Digest, registerRanges(d.LockedPCRs))
	return err
}

// registerRanges writes ascending registers as "0-15, 17".
func registerRanges(indexes []pcr.Index) string {
	var parts []string
	for i := 0; i < len(indexes); {
		first := indexes[i]
		for i++; i < len(indexes) && indexes[i] == indexes[i-1]+1; i++ {
		}
		if last := indexes[i-1]; last > first {
			parts = append(parts, fmt.Sprintf("%d-%d", first, last))
		} else {
			parts = append(parts, fmt.Sprint(int(first)))
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func newNSMDescribePCR(env *cli.Env) *cobra.Command {
	var f nsmFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "describe-pcr N",
		Short:   "Print a register's value and whether it is locked",
		Example: "  $ cretula nsm describe-pcr 0",
		Args:    exactArguments("N"),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := registerArgument(args[0])
			if err != nil {
				return err
			}
			return f.withClient(env, func(client nsm.Client, _ string, _ bool) error {
				state, err := client.DescribePCR(cmd.Context(), index)
				if err != nil {
					return err
				}
				return printRegister(env, index, state, asJSON)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func printRegister(env *cli.Env, index pcr.Index, state nsm.PCRState, asJSON bool) error {
	if asJSON {
		return env.PrintJSON(struct {
			Schema string     `json:"schema"`
			Index  int        `json:"index"`
			Locked bool       `json:"locked"`
			Value  pcr.Digest `json:"value"`
		}{"cretula.nsm-pcr.v1", int(index), state.Locked, state.Value})
	}
	word := "unlocked"
	if state.Locked {
		word = "locked"
	}
	_, err := fmt.Fprintf(env.Stdout, "%v  %s\n", state.Value, word)
	return err
}

func newNSMExtendPCR(env *cli.Env) *cobra.Command {
	var f nsmFlags
	var data string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "extend-pcr N --data HEX|@FILE",
		Short: "Extend a register and print its new value",
		Long: `Extend a register: its new value is SHA-384 of the old value and the data, of any
length that fits a request. Documents carry a register only once it is locked.`,
		Example: "  $ cretula nsm extend-pcr 16 --data @config.json",
		Args:    exactArguments("N"),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := registerArgument(args[0])
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("data") {
				return cli.WithHint(cli.Usagef("--data is missing"), "see '%s --help'", cmd.CommandPath())
			}
			content, err := requestBytes(env, "--data", data)
			if err != nil {
				return err
			}
			return f.withClient(env, func(client nsm.Client, _ string, _ bool) error {
				value, err := client.ExtendPCR(cmd.Context(), index, content)
				if err != nil {
					return err
				}
				return printRegister(env, index, nsm.PCRState{Value: value}, asJSON)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&data, "data", "", "what to extend by, as `HEX|@FILE`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func newNSMLockPCR(env *cli.Env) *cobra.Command {
	var f nsmFlags
	cmd := &cobra.Command{
		Use:     "lock-pcr N",
		Short:   "Make a register read-only for the life of the module",
		Example: "  $ cretula nsm lock-pcr 16",
		Args:    exactArguments("N"),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := registerArgument(args[0])
			if err != nil {
				return err
			}
			return f.withClient(env, func(client nsm.Client, _ string, _ bool) error {
				return client.LockPCR(cmd.Context(), index)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func newNSMRandom(env *cli.Env) *cobra.Command {
	var f nsmFlags
	var asHex bool
	var output string
	cmd := &cobra.Command{
		Use:     "random",
		Short:   "Write 256 bytes from the module's random number generator",
		Example: "  $ cretula nsm random | sha256sum",
		Args:    exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.withClient(env, func(client nsm.Client, _ string, _ bool) error {
				random, err := client.Random(cmd.Context())
				if err != nil {
					return err
				}
				if asHex {
					random = fmt.Appendf(nil, "%x\n", random)
				}
				return writeNSMOutput(env, output, random, asHex, 0o600)
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asHex, "hex", false, "write hexadecimal digits and a newline")
	cmd.Flags().StringVar(&output, "output", "-", "write to this `FILE`, which is made with mode 0600")
	return cmd
}

// writeNSMOutput writes to a file, or to stdout for "-".
func writeNSMOutput(env *cli.Env, name string, data []byte, isText bool, mode os.FileMode) error {
	switch {
	case name != "-":
		return os.WriteFile(name, data, mode)
	case isText:
		_, err := env.Stdout.Write(data)
		return err
	}
	return env.WriteBinary(data)
}

// attestFlags are the flags of "nsm attest" as they were given.
type attestFlags struct {
	nsmFlags
	publicKey, nonce, userData, output string
}

func newNSMAttest(env *cli.Env) *cobra.Command {
	var f attestFlags
	cmd := &cobra.Command{
		Use:   "attest",
		Short: "Have the module make an attestation document",
		Long: `Have the module make an attestation document and write it, raw, to standard output
or to a file. What is not given is absent in the document; an empty value is
present and empty.`,
		Example: `  $ cretula nsm attest --public-key key.pem --nonce 00112233 --output doc.cbor
  $ cretula nsm attest --user-data @statement.json | cretula attestation inspect -`,
		Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runNSMAttest(cmd.Context(), env, cmd, &f) },
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.publicKey, "public-key", "", "public key from this `FILE`, PEM or DER (SubjectPublicKeyInfo); sent as DER")
	flags.StringVar(&f.nonce, "nonce", "", "nonce, as `HEX|@FILE`")
	flags.StringVar(&f.userData, "user-data", "", "user data, as `HEX|@FILE`")
	flags.StringVar(&f.output, "output", "-", "write to this `FILE`")
	return cmd
}

func runNSMAttest(ctx context.Context, env *cli.Env, cmd *cobra.Command, f *attestFlags) error {
	if f.output == "-" && cli.IsTerminal(env.Stdout) {
		return env.WriteBinary(nil) // refused before anything is attested
	}
	var request nsm.AttestationRequest
	var err error
	if cmd.Flags().Changed("public-key") {
		if request.PublicKey, err = readPublicKey(env, f.publicKey); err != nil {
			return err
		}
	}
	if cmd.Flags().Changed("nonce") {
		if request.Nonce, err = requestBytes(env, "--nonce", f.nonce); err != nil {
			return err
		}
	}
	if cmd.Flags().Changed("user-data") {
		if request.UserData, err = requestBytes(env, "--user-data", f.userData); err != nil {
			return err
		}
	}
	return f.withClient(env, func(client nsm.Client, _ string, _ bool) error {
		document, err := client.Attest(ctx, request)
		if err != nil {
			return err
		}
		return writeNSMOutput(env, f.output, document, false, 0o644)
	})
}

// readPublicKey returns the DER of a SubjectPublicKeyInfo (RFC 5280 section
// 4.1.2.7) that stands in a file as DER or as PEM (RFC 7468 section 13).
func readPublicKey(env *cli.Env, name string) ([]byte, error) {
	data, err := env.ReadInput(name, maxPublicKeyFile)
	if err != nil {
		return nil, fmt.Errorf("--public-key: %w", err)
	}
	der := data
	if block, _ := pem.Decode(data); block != nil {
		if block.Type != "PUBLIC KEY" {
			return nil, cli.WithHint(
				reason.New(reason.Malformed, "input.public-key", "%s: the PEM block is %q, not %q", name, block.Type, "PUBLIC KEY"),
				"'openssl pkey -in FILE -pubout' writes the public key of a private one")
		}
		der = block.Bytes
	}
	if _, err := x509.ParsePKIXPublicKey(der); err != nil {
		return nil, cli.WithHint(
			reason.New(reason.Malformed, "input.public-key", "%s holds no public key: %w", name, err),
			"want PEM or DER of a SubjectPublicKeyInfo, as 'openssl pkey -pubout' writes it")
	}
	return der, nil
}
