"""What ``occam verify`` holds a machine against: samples in the bundle, and what its networks say of them.

Real faces may not be given away with the data's terms as they are, so the samples are made of the clip that
comes with the package: its face, mirrored, relit, turned and blurred, and its voice at several levels of
noise. The answers are ONNX Runtime's; ``export.verify`` shows on real faces that all runtimes agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from occam_sdk.audio.decode import AudioFile
from occam_sdk.audio.features import has_speech, levelled, open_extractor
from occam_sdk.backends import Runtime, open_session
from occam_sdk.bundle import SPEECH, Bundle, load_bundle
from occam_sdk.demo import demo_clip
from occam_sdk.types import Waveform
from occam_sdk.verify import SAMPLES, demo_frames, main_output, outputs
from occam_sdk.video.align import align_face
from occam_sdk.video.expression import to_grey
from occam_sdk.video.faces import BundleDetector

GAINS: Final = (1.0, 0.6, 1.4)
BLURS: Final = (0.0, 1.2)  # standard deviation in pixels
NOISES: Final = (0.0, 0.003, 0.01, 0.03)  # of full scale


def write_samples(folder: Path) -> None:
    """Write ``samples.npz`` into a bundle whose other files are in place and in the manifest.

    Raises:
        ValueError: no face or no voice is found in the demo clip.
    """
    bundle = load_bundle(folder)
    sounds = _sounds()
    samples: dict[str, NDArray[Any]] = {
        "faces": _faces(bundle), "features": _features(bundle, sounds)
    }  # fmt: skip
    if SPEECH in bundle.networks:
        heard = map(levelled, sounds)
        samples["sounds"] = np.stack([one for one in heard if one is not None])
    for name in bundle.networks:
        for precision in ("fp32", *(["int8"] if name in bundle.int8 else [])):
            runtime = Runtime(backend="onnxruntime", device="cpu", precision=precision)
            session = open_session(bundle.network(name), runtime)
            said = outputs(name, session, samples, bundle)
            main = main_output(name)
            samples[f"{name}.{precision}.{main}"] = said[main]
    np.savez_compressed(folder / SAMPLES, **samples)  # type: ignore[arg-type]


def _faces(bundle: Bundle) -> NDArray[np.uint8]:
    """(N, S, S) uint8 grey."""
    session = open_session(
        bundle.network("detector"), Runtime(backend="openvino", device="cpu", precision="fp32")
    )
    detector, size = BundleDetector(session), bundle.face.input_size
    found = []
    for image in demo_frames():
        faces = detector.detect(image)
        if not faces:
            raise ValueError(
                "no face is found in the demo clip: the detector is not a face detector"
            )
        crop = align_face(image, faces[0].landmarks, bundle.face.template, size)
        grey = to_grey(crop[None])[0]
        for picture in (grey, grey[:, ::-1], cv2.rotate(grey, cv2.ROTATE_180)):
            for gain in GAINS:
                for blur in BLURS:
                    lit = np.clip(picture * gain, 0, 255).astype(np.uint8)
                    found.append(cv2.GaussianBlur(lit, (0, 0), blur) if blur else lit)
    return np.stack(found).astype(np.uint8)


def _features(bundle: Bundle, sounds: list[Waveform]) -> NDArray[np.float32]:
    """(M, F) float32."""
    runtime = Runtime(backend="openvino", device="cpu", precision="fp32")
    hears = SPEECH in bundle.networks
    speech = open_session(bundle.network(SPEECH), runtime) if hears else None
    extractor = open_extractor(bundle.voice.feature_set, speech)
    heard = [extractor.extract(sound) for sound in sounds]
    return np.stack([features for features in heard if features is not None])


def _sounds() -> list[Waveform]:
    """The demo clip's voice, with more and more noise.

    Raises:
        ValueError: none of it passes for speech.
    """
    rng = np.random.default_rng(0)
    found = []
    for piece in AudioFile(demo_clip()):
        for noise in NOISES:
            noisy = piece.samples + noise * rng.standard_normal(len(piece.samples))
            sound = Waveform(np.clip(noisy, -1, 1).astype(np.float32))
            if has_speech(sound):
                found.append(sound)
    if not found:
        raise ValueError("no voice is heard in the demo clip")
    return found
