"""What ``trellic help`` tells, and the examples under every ``--help``."""

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
        "trellic decode archive photos -r --format jpg",
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
    "models": ("trellic models", "trellic models photo --json", "trellic models add model.zip"),
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
        "trellic finetune decoders --add-decoder fast --bundle photo --photos photos --out my.zip",
    ),
    "export": ("trellic export runs/photo/weights.pt my.zip --photos photos",),
}

TOPICS: dict[str, str] = {
    "quality": f"""\
--quality takes a number from 1 to 100, in steps of 1/16. The default is {DEFAULT_QUALITY:g}.
A higher quality never makes a smaller file or a worse picture, on average over
a few photos. With the model photo, quality N gives about SSIMULACRA 2 = N on
average: 50 is medium, 70 high, 90 hard to tell from the original.

Three options replace it. --max-bytes finds the best quality whose file is no
larger. --bpp does the same with a number of bits a pixel. --ssimulacra2 finds
the quality at which this picture has a score, within a point; it decodes and
scores each try, about three seconds a megapixel. If no quality meets the
target, the error names what can be reached.

--trellis changes the size of the file, not the quality: see trellic help trellis.

  trellic encode photo.jpg photo.tlc --quality 40
  trellic encode photo.jpg photo.tlc --max-bytes 50000""",
    "decoders": f"""\
One file can be decoded in several ways. The receiver chooses with --decoder.

  quality      the best picture (default: {DEFAULT_DECODER})
  fast         less than half of the computation, a slightly worse picture
  preview      1/8 of the width and height, from the first third of the file

These are the decoders of the model photo; other models may have others. If a
decoder has a base, NAME:0.4 mixes 40 % of it with 60 % of its base.
trellic models lists the decoders of each model. trellic info FILE says how many
bytes of that file each decoder reads.

  trellic decode photo.tlc photo.png --decoder fast""",
    "sizes": """\
--size WxH makes a picture fit into W x H pixels. It keeps the proportions and
never enlarges. --scale 0.5 halves width and height.

Unless --decoder names one, a small picture comes from the cheapest decoder whose
picture has at least twice the width and height that are asked for: preview below
1/16, fast up to one half, quality above.

--region X,Y,W,H decodes a part of a picture. --size then applies to that part.

  trellic decode photo.tlc thumbnail.webp --size 256x256""",
    "trellis": f"""\
--trellis sets how hard the encoder searches for a small file. It takes the
number of states of the search: 0, 4, 8, 16, 32, 64, 128 or 256. The default is
{DEFAULT_TRELLIS}. More states take longer to encode. They decode at the same speed and
give the same quality in fewer bytes.

  trellic encode photo.jpg photo.tlc --trellis 256""",
    "folders": """\
-r goes through folders. OUT is a folder that mirrors their trees. Hidden files
and links to folders are left out. encode takes the pictures, decode the .tlc files.

--skip-existing leaves out files whose result is there. --preserve keeps the
modification times. --dry-run only says what would be written. --jobs N codes N
files at once; the default is one a core. With --max-memory or --limits service
files are coded one by one, since the limit is one of the whole process.

Two files whose results have the same name are refused: a.png and a.jpg in one
folder. A file that fails gives one line on stderr. The others go on, and the
exit code is 1.

  trellic encode photos out -r --skip-existing --preserve""",
    "pipes": """\
- stands for standard input or output. decode writes PNG there, or the --format
that is asked for. Lines about the file then go to stderr.

  cat photo.jpg | trellic encode - - > photo.tlc
  cat photo.tlc | trellic decode - - --format jpg > photo.jpg""",
    "models": """\
A file is made with a model and decoded with the same one. The model photo comes
with Trellic and is the default. trellic models lists what is installed, and
trellic models add PATH installs another one. --model takes a name or a path.

  trellic models""",
    "speed": """\
The first command on a machine compiles its kernels. They are kept in
~/.cache/trellic, or where TRELLIC_CACHE says. trellic warm-up does it ahead of
time, for example in a Dockerfile.

--precision bf16 needs OpenVINO and a CPU that multiplies bfloat16. Decoding then
takes half to two thirds of the time. --precision int8 needs a CPU with VNNI and
a model with graphs in 8 bits; it saves about a sixth. auto takes the fastest.

  trellic warm-up
  trellic bench""",
    "limits": """\
--max-pixels refuses larger pictures before memory is taken for them. --max-memory
keeps the process within so much memory, or refuses. --deadline stops a picture
after so many seconds. --limits service sets all three for files of strangers.

  trellic decode photo.tlc photo.png --max-memory 800M --deadline 20""",
}


def epilog(command: str) -> str:
    """Return what stands under the help of a command; typer makes a line of each paragraph."""
    return "\n\n".join(["Examples:", *EXAMPLES[command]])
