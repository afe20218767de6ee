// SPDX-License-Identifier: Apache-2.0

package nitrocli

import (
	"fmt"

	"github.com/cretula/cretula/internal/cli"
)

// A Code is the number of an error of nitro-cli, which is its exit status.
type Code int

// The codes that this program fails with.
const (
	MissingArgument     Code = 1  // E01
	ConflictingArgument Code = 2  // E02
	InvalidArgument     Code = 3  // E03
	ReadFromDisk        Code = 7  // E07
	Socket              Code = 11 // E11
	Serialisation       Code = 17 // E17
	FileOperation       Code = 19 // E19
	ImageParsing        Code = 35 // E35
	ProcessConnection   Code = 39 // E39
	ImageBuilding       Code = 48 // E48
	DockerImageBuilding Code = 49 // E49
	DockerImagePulling  Code = 50 // E50
	Hasher              Code = 57 // E57
	SignatureChecking   Code = 59 // E59
	ImageSigning        Code = 60 // E60
)

// String is the code as it is printed: E and two digits.
func (c Code) String() string { return fmt.Sprintf("E%02d", int(c)) }

// Title is what the error is called.
func (c Code) Title() string {
	if c < 0 || int(c) >= len(codes) {
		return "Unknown error"
	}
	return codes[c].title
}

// Explain says what a code, written as "E35", means and what to do.
func Explain(code string) string {
	for i, text := range codes {
		if Code(i).String() == code {
			return text.title + ". " + text.explanation
		}
	}
	return "No such error code " + cli.Printable(code)
}

// codes has title and explanation of each code, E00 first. The titles are names of
// AWS's, the explanations are not.
var codes = [...]struct{ title, explanation string }{
	{"Unspecified error", "None of the others."},
	{"Missing mandatory argument", "An argument that the command needs, or that another argument needs beside it, was not given.\n\tExample: --signing-certificate of build-enclave needs --private-key."},
	{"Conflicting arguments", "Two arguments were given of which only one can hold.\n\tExample: a configuration file for run-enclave with both cpu_count and cpu_ids."},
	{"Invalid argument provided", "The value of an argument is not one that it can have.\n\tExample: --cpu-count two, or --enclave-cid 3, which is the parent's."},
	{"Socket pair creation failure", "The sockets between the command and the process that keeps the enclave could not be made: out of memory or of file descriptors."},
	{"Process spawn failure", "The process that keeps the enclave could not be started: out of memory or of processes."},
	{"Daemonize process failure", "The process that keeps the enclave could not leave the terminal it was started from."},
	{"Read from disk failure", "The folder of the enclaves' sockets (/run/nitro_enclaves) could not be read. It is there where the Nitro Enclaves packages are installed and set up, and belongs to the group ne."},
	{"Unusable connection error", "The connection to an enclave's process is closed, or was never open."},
	{"Socket close error", "A socket could not be closed."},
	{"Socket connect set timeout error", "The time limit of a socket could not be set."},
	{"Socket error", "A socket failed in a way that has no code of its own. An enclave that is not running, or whose process ended, is the usual cause."},
	{"Epoll error", "An enclave's events could not be waited for: registering its descriptor failed."},
	{"Inotify error", "A socket's file could not be watched."},
	{"Invalid command", "An enclave's process got a command that it does not know. The versions of the programs may differ."},
	{"Lock acquire failure", "A lock inside the program was left behind by a thread that failed."},
	{"Thread join failure", "A thread of the program did not end as it should have."},
	{"Serde error", "Data could not be encoded or decoded: JSON of a configuration file, or a message between the programs."},
	{"File permissions error", "The permissions of the log file could not be set; only its owner can."},
	{"File operation failure", "A file could not be opened, read, written or replaced. The message names it."},
	{"Invalid CPU configuration", "A CPU is listed twice in --cpu-ids."},
	{"No such CPU available in the pool", "A CPU of --cpu-ids is not set aside for enclaves (/etc/nitro_enclaves/allocator.yaml, cpu_pool)."},
	{"Insufficient CPUs available in the pool", "More CPUs were asked for than are set aside for enclaves (/etc/nitro_enclaves/allocator.yaml, cpu_count)."},
	{"Malformed CPU ID error", "The machine's list of CPUs could not be understood."},
	{"CPU error", "A range in a list of CPUs is none."},
	{"No such hugepage flag error", "Huge pages of this size do not exist."},
	{"Insufficient memory requested", "The enclave would get no memory, or less than four times the size of its image."},
	{"Insufficient memory available", "More memory was asked for than is set aside for enclaves (/etc/nitro_enclaves/allocator.yaml, memory_mib)."},
	{"Invalid enclave descriptor", "The driver did not make an enclave."},
	{"Ioctl failure", "A call to the driver failed in a way that has no code of its own."},
	{"Ioctl image get load info failure", "The driver did not say where in memory the image goes."},
	{"Ioctl set memory region failure", "The driver refused a region of memory for the enclave."},
	{"Ioctl add vCPU failure", "The driver refused a CPU for the enclave."},
	{"Ioctl start enclave failure", "The driver did not start the enclave."},
	{"Memory overflow", "The image, loaded where the driver wants it, would end beyond the last address."},
	{"EIF file parsing error", "The image file is not what the format allows, or could not be read whole. 'cretula eif describe' names the rule that it breaks and the offset."},
	{"Enclave boot failure", "The enclave did not report that it is up in time. Usual causes: too little memory for the image, an image for the other architecture, and a signing certificate that has expired. 'cretula eif verify' finds the last two."},
	{"Enclave event wait error", "Waiting for something to happen to the enclave failed."},
	{"Enclave process command not executed error", "At least one enclave's process did not do what it was told."},
	{"Enclave process connection failure", "At least one enclave's process could not be reached, or could not be started. An error printed before this one has the cause."},
	{"Socket path not found", "The id of the enclave does not lead to a socket."},
	{"Enclave process send reply failure", "An enclave's process could not answer."},
	{"Enclave mmap error", "Memory for the enclave could not be mapped."},
	{"Enclave munmap error", "Memory of the enclave could not be given back."},
	{"Enclave console connection failure", "The console could not be reached. Only enclaves in debug mode have one."},
	{"Enclave console read error", "Reading the enclave's console failed."},
	{"Enclave console write output error", "What was read from the enclave's console could not be printed."},
	{"Integer parsing error", "The enclave's context id is no number that it can be."},
	{"EIF building error", "The image was not built. The message says why; nothing was written."},
	{"Docker image build error", "An image could not be made from a Dockerfile. cretula makes none: build the container image with any tool and name it with --docker-uri."},
	{"Docker image pull error", "The container image could not be read: it is not where --docker-uri says, or the registry refuses these credentials."},
	{"Artifacts path environment variable not set", "Neither NITRO_CLI_ARTIFACTS nor HOME says where files that are made on the way go. cretula does not need them."},
	{"Blobs path environment variable not set", "NITRO_CLI_BLOBS does not say where kernel and init are. Without it /usr/share/nitro_enclaves/blobs/ is taken."},
	{"Clock skew error", "The clock jumped while the console was read."},
	{"Signal masking error", "Signals could not be held back."},
	{"Signal unmasking error", "Signals could not be let through again."},
	{"Logger error", "The log could not be set up. cretula writes none."},
	{"Hasher error", "A register could not be computed: the file is no certificate."},
	{"Naming error", "No enclave has this name, or more than one."},
	{"EIF signature checker error", "The image's signature or its certificate does not hold: another key made it, it is over another image, or the certificate is not valid now. 'cretula eif verify' says which."},
	{"EIF signing error", "The image was not signed: the key or the certificate cannot be used, they do not belong together, or the key service refused."},
}
