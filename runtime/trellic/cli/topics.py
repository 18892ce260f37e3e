"""The texts of ``trellic help``, and the examples at the end of every ``--help``."""

from __future__ import annotations

from trellic.constants import DEFAULT_DECODER, DEFAULT_QUALITY, DEFAULT_TRELLIS

EXAMPLES: dict[str, tuple[str, ...]] = {
    "encode": (
        "trellic encode photo.jpg photo.tlc",
        "trellic encode photo.jpg photo.tlc --quality 40",
        "trellic encode photo.jpg photo.tlc --max-bytes 50000",
        "trellic encode edited.png new.tlc --like old.tlc",
        "trellic encode photos out -r --skip-existing",
        "cat photo.jpg | trellic encode - - > photo.tlc",
    ),
    "decode": (
        "trellic decode photo.tlc photo.png",
        "trellic decode photo.tlc photo.jpg --decoder fast",
        "trellic decode photo.tlc thumbnail.webp --size 256x256",
        "trellic decode archive photos -r --format jpg --background white",
        "cat photo.tlc | trellic decode - - --format png > photo.png",
    ),
    "cut": (
        "trellic cut photo.tlc small.tlc --max-bytes 20000",
        "trellic cut photo.tlc small.tlc --layers 1",
    ),
    "transcode": (
        "trellic transcode photo.tlc small.tlc --quality 50",
        "trellic transcode photo.tlc small.tlc --max-bytes 20000",
        "trellic transcode archive small -r --quality 50",
    ),
    "info": ("trellic info photo.tlc", "trellic info photo.tlc other.tlc --json"),
    "models": (
        "trellic models",
        "trellic models photo --json",
        "trellic models add model.zip",
        "trellic models add aerial.tla",
        "trellic models remove aerial",
    ),
    "bench": ("trellic bench", "trellic bench photo.jpg --repeat 3"),
    "compare": (
        "trellic compare photo.jpg",
        "trellic compare photo.jpg photos/a.jpg --quality 30 --out page.html",
        "trellic compare photo.jpg --equal psnr",
    ),
    "warm-up": (
        "trellic warm-up",
        "RUN trellic warm-up  # in a Dockerfile, as the user that will run it",
    ),
    "install-desktop": ("trellic install-desktop", "trellic install-desktop --undo"),
    "help": ("trellic help", "trellic help quality", "trellic help encode"),
    "train": (
        "trellic train photos",
        "trellic train photo --photos photos --out runs/photo --minutes 600",
        "trellic train photo --photos photos --out runs/photo --resume runs/photo/last.ckpt",
    ),
    "finetune": (
        "trellic finetune finetune --weights runs/photo/weights.pt --photos photos --out tuned",
    ),
    "add-decoder": (
        "trellic finetune decoders-eye --add-decoder fast --bundle photo --photos DIR --out a.zip",
    ),
    "adapt": (
        "trellic adapt photos --name aerial",
        "trellic adapt photos --name aerial --minutes 15 --out aerial.tla",
    ),
    "distill": (
        "trellic distill frames --name game",
        "trellic distill frames --name game --width quarter --minutes 120",
    ),
    "export": ("trellic export runs/photo/weights.pt my.zip --photos photos",),
    "serve": (
        "trellic serve",
        "trellic serve --source photos --allow-unsigned",
        "trellic serve --host 0.0.0.0 --api-keys keys.txt",
    ),
    "batch": (
        "trellic batch encode photos out --quality 60",
        "trellic batch decode s3://bucket/archive s3://bucket/photos --format .jpg",
    ),
}

TOPICS: dict[str, str] = {
    "quality": f"""\
--quality takes a number from 1 to 100, in steps of 1/16. The default is {DEFAULT_QUALITY:g}.
A higher quality never makes a smaller file or a worse picture, on average over
a few photos. With the model photo, quality N gives about SSIMULACRA 2 = N on
average: 50 is medium, 70 high, 90 hard to tell from the original.

You can give one of three other options instead. --max-bytes finds the best
quality that fits into so many bytes. --bpp does the same with a number of bits
per pixel. --ssimulacra2 finds the quality at which this picture gets a certain
score, to within one point. It decodes and scores each try, which takes about
three seconds per megapixel. If no quality meets the target, the error says what
can be reached.

--trellis changes the size of the file, not the quality: see trellic help trellis.

  trellic encode photo.jpg photo.tlc --quality 40
  trellic encode photo.jpg photo.tlc --max-bytes 50000""",
    "decoders": f"""\
You can decode the same file in several ways. --decoder chooses one of them.

  quality      the best picture (default: {DEFAULT_DECODER})
  fast         less than half of the computation, a slightly worse picture
  texture      texture in place of blur; can be mixed with quality
  half         1/2 of the width and height
  preview      1/8 of the width and height, from the beginning of the file

These are the decoders of the model photo. Other models may have others. If a
decoder has a base, NAME:0.4 mixes 40 % of the decoder with 60 % of its base.
trellic models lists the decoders of each model. trellic info FILE says how many
bytes of that file each decoder reads.

  trellic decode photo.tlc photo.png --decoder fast""",
    "sizes": """\
--size WxH makes a picture fit into W x H pixels. It keeps the proportions and
never enlarges. --scale 0.5 halves width and height.

If you name no --decoder, a small picture comes from the fastest decoder whose
picture has at least twice the width and height of the result: preview for 1/16
and less, half for 1/4 and less, fast for 1/2 and less, quality for anything
larger.

--region X,Y,W,H decodes a part of a picture. --size then applies to that part.

  trellic decode photo.tlc thumbnail.webp --size 256x256""",
    "trellis": f"""\
--trellis sets how hard the encoder searches for a small file. It takes the
number of states of the search: 0, 4, 8, 16, 32, 64, 128 or 256. The default is
{DEFAULT_TRELLIS}. With more states, encoding takes longer, decoding takes the same time, and
the file is smaller at the same quality.

  trellic encode photo.jpg photo.tlc --trellis 256""",
    "folders": """\
With -r, IN may be a folder. OUT is a folder too, and gets the same subfolders.
encode takes all pictures below IN; decode takes all .tlc files. Hidden files and
links to folders are skipped.

--skip-existing skips files whose result exists. Only times are compared: a file
that was changed, moved or copied into its folder after its result was written
is coded again, also if it has another suffix than the file before. Moving a
whole folder leaves the times of the files in it: name another OUT then. Renaming a
file, or changing its permissions, counts as a change.

--preserve keeps the modification times. --dry-run only shows what would be
written. --jobs N works on N files at once; the default is one per core. With
--max-memory or --limits service, files are coded one by one, because the limit
applies to the process.

If two files would have the same result, such as a.png and a.jpg in one folder,
the second one is an error. With encode --keep-suffix the results are a.png.tlc
and a.jpg.tlc. Each file that fails gives one line on stderr. The others go on,
and the exit code is 1.

  trellic encode photos out -r --skip-existing --preserve""",
    "pipes": """\
- stands for standard input or output. decode writes PNG to a pipe, unless
--format names another format. Messages about the file then go to stderr.

  cat photo.jpg | trellic encode - - > photo.tlc
  cat photo.tlc | trellic decode - - --format jpg > photo.jpg""",
    "models": """\
Each file is decoded with the model that it was encoded with. The model photo
comes with Trellic and is the default. trellic models lists what is installed,
and trellic models add PATH installs another model. --model takes a name or a
path.

An adapter changes a model a little, for pictures of one kind. trellic adapt makes
one of 25 pictures in minutes, and trellic models add FILE.tla installs it. Files
that were encoded with --adapter NAME say so, and decode finds it by itself. Who
does not have it sees the picture a little worse, with a warning, unless
--embed-adapter has put it into the file.

  trellic models""",
    "speed": """\
Trellic compiles its kernels the first time that they run on a machine. It keeps
them in ~/.cache/trellic, or in the folder that TRELLIC_CACHE names. trellic
warm-up compiles them ahead of time, for example in a Dockerfile.

--precision bf16 needs OpenVINO and a CPU that multiplies bfloat16. Decoding then
takes half to two thirds of the time. --precision int8 needs a CPU with VNNI and
a model with 8-bit graphs; it saves about a sixth of the time. auto chooses the
fastest one.

  trellic warm-up
  trellic bench""",
    "limits": """\
--max-pixels refuses larger pictures before it takes memory for them. --max-memory
sets how much memory the process may use; pictures that need more are refused.
--deadline stops work on a picture after so many seconds. --limits service sets
all three, for files that you do not trust.

  trellic decode photo.tlc photo.png --max-memory 800M --deadline 20""",
}


def epilog(command: str) -> str:
    """Return the examples for the end of a command's help; typer prints each paragraph alone."""
    return "\n\n".join(["Examples:", *EXAMPLES[command]])
