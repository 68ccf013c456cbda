//! The command line of `record`.

use std::path::PathBuf;

use clap::Args;

use super::dump::Order;
use crate::limit_args::LimitArgs;

/// Examples below the help.
pub(crate) const EXAMPLES: &str = "\
Dumps (told by content and name):
  .npz, .npy        arrays by tensor name, or by the file's name; integers are codes, floats reals
  folder of .npy    the same, one file a tensor
  NNIE              LAYER_output0_C_H_W_quant.linear.hex, .._caffe.linear.float, seg0_layer1_..
  Vitis AI          deploy_check_data_int/ with NODE_fix.bin and shape.txt
  Polygraphy        JSON of --save-outputs; JSON of trtexec --exportOutput
  raw binaries      with --list: lines of 'tensor-name path type shape...', for example
                      conv1 conv1.bin int8 1 16 32 32
                    Paths are relative to --from DIR, or to the list. '#' starts a comment. '-' as
                    the type is --dtype. Several lines of one name are its samples.
Several --from with the same names are samples, in order.

Examples:
  align-check record net.onnx --from dump.npz --input photos.npz --out recordings/board-1
      tensors by name; inputs from a file of their own
  align-check record net.onnx --from mapper_quant/ --input in.npz --map names.toml --out rec
      an NNIE mapper's dump; names.toml holds lines of \"dump name\" = \"tensor name\"
  align-check record net.onnx --from deploy_check_data_int/ -i in.npz --out rec -t vitis-dpu
      a Vitis AI dump, brought from NHWC into the model's order
  align-check record net.tflite --list tensors.txt --out rec --tool 'board X, SDK 1.2'
      raw binaries
  align-check verify rec --target tflite-reference
      then: does the simulation reproduce it

Nothing is guessed in silence: a line for each tensor says why it is that tensor, and what is odd
about its numbers.
Exit codes: 0 recorded, 2 usage or input error, 3 unsupported.";

/// What `record` is told.
#[derive(Debug, Default, Args)]
pub(crate) struct RecordArgs {
    /// The quantized model that was run
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,

    /// What was dumped: a file or a folder; more of them are further tensors, or further samples
    #[arg(long, value_name = "DUMP", required_unless_present = "list")]
    pub(crate) from: Vec<PathBuf>,

    /// The recording's folder, to be made
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// The target that must reproduce it: a name, an alias or a TOML file
    #[arg(short, long, value_name = "T")]
    pub(crate) target: Option<String>,

    /// Input samples (.npz, .npy), where the dump does not hold them
    #[arg(short, long, value_name = "FILE", num_args = 1..)]
    pub(crate) input: Vec<PathBuf>,

    /// Which tensor a dump is, where names do not tell: lines of "dump name" = "tensor name"
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) map: Option<PathBuf>,

    /// The dump's order of axes, where shapes do not tell
    #[arg(long, value_enum)]
    pub(crate) layout: Option<Order>,

    /// Names, types and shapes of raw binaries
    #[arg(long, value_name = "FILE")]
    pub(crate) list: Option<PathBuf>,

    /// Read numbers as this type: int8, uint8, int16, uint16, int32, uint32, int64, uint64, float32, float64
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<String>,

    /// Which stage of an NNIE dump (quant, inst, func, board, caffe), or which of Polygraphy's runners
    #[arg(long, value_name = "NAME")]
    pub(crate) stage: Option<String>,

    /// Accept tensors that only their shape identifies
    #[arg(long)]
    pub(crate) guess: bool,

    /// Replace a recording that exists
    #[arg(long)]
    pub(crate) force: bool,

    /// The software or hardware that made the dump, with versions
    #[arg(long, value_name = "TEXT", default_value = "not stated")]
    pub(crate) tool: String,

    /// Operating system and CPU, or the board
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) platform: String,

    /// Licence of the model and the data
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) license: String,

    /// Write a report for machines
    #[arg(long, value_name = "json=PATH")]
    pub(crate) report: Option<String>,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}
