"""`Codec`: a loaded model that encodes and decodes pictures, alone or in batches."""

from trellic.codec.decoding import Decoding, Pixels
from trellic.codec.encoding import Encoding
from trellic.codec.transcoding import Transcoding

__all__ = ["Codec", "Pixels"]


class Codec(Encoding, Transcoding, Decoding):
    """A loaded model, which encodes and decodes pictures.

    The engines stay loaded between calls. Several threads may use one codec at the same time.

    Parameters
    ----------
    model : name of an installed model, or path of a bundle
    device : "auto", "cpu", "cuda" or "tensorrt"
    threads : number of threads of each engine; 0 lets the engine choose
    precision : precision of the encoder and the decoders. "bf16" takes little more than half of
        the time; it needs OpenVINO and a CPU with bfloat16. "int8" takes three quarters of the
        time, for at most 1 % more bits; it needs a model with 8-bit graphs. "fp16" is for GPUs
        and has not run on one yet. "auto" chooses the fastest one for a CPU. Every precision
        decodes any file; the pictures differ by a few hundredths of a dB
    limits : `trellic.Limits`, or "service" if you do not trust the pictures and streams. The
        limits apply to every call, and to each picture of a batch (on a GPU, to the whole batch).
        Limits that the caller sets (`trellic.limited`) apply too. Call `warm_up` first, because
        the time to load and compile counts
    adapter : adapter to encode with (``trellic adapt``): name of an installed one, or path of its
        file. Decoding finds the adapter of each stream by itself; streams that name none are
        decoded with this one, if it changes decoders alone
    embed_adapter : store the adapter in the streams, for readers that do not have it

    Examples
    --------
    >>> import numpy as np
    >>> from trellic.codec import Codec
    >>> codec = Codec.load("photo")
    >>> data = codec.encode(np.zeros((32, 48, 3), np.uint8), quality=50)
    >>> codec.decode(data).shape
    (32, 48, 3)
    """
