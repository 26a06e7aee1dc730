"""Voices, once: the features of every utterance by the product's own code, kept in one file.

python -m training.prepare_voices --data ../shared/data --out runs/voices.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from occam_sdk.audio.decode import AudioFile
from occam_sdk.audio.features import VoiceFeatures

from .data import VoiceSample, read_emodb, read_ravdess
from .prepare_faces import unpacked

FEATURE_SET = "IS10_paraling_compat"


def prepare(samples: list[VoiceSample], out: Path) -> None:
    """Extract the features of every utterance and write ``out``; one without speech is an error."""
    extractor = VoiceFeatures(FEATURE_SET)
    features = []
    for number, sample in enumerate(samples):
        pieces = list(AudioFile(sample.path))
        found = extractor.extract(pieces[0]) if len(pieces) == 1 else None
        if found is None:
            raise ValueError(f"{sample.path}: expected one utterance with speech")
        features.append(found)
        if number % 200 == 0:
            print(f"{number} of {len(samples)} utterances", flush=True)
    np.savez(
        out,
        features=np.stack(features),
        label=np.array([sample.label for sample in samples], np.int64),
        corpus=np.array([sample.corpus for sample in samples]),
        speaker=np.array([sample.speaker for sample in samples]),
    )
    print(f"{out}: {len(samples)} utterances")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the zip files")
    parser.add_argument("--out", type=Path, required=True, help="the .npz to write")
    args = parser.parse_args()
    ravdess = unpacked(args.data / "ravdess_speech_16k.zip", args.out.parent)
    emodb = unpacked(args.data / "emodb_2s_16k.zip", args.out.parent)
    prepare([*read_ravdess(ravdess), *read_emodb(emodb)], args.out)


if __name__ == "__main__":
    main()
