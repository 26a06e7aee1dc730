"""Opening clips: what plays, what is refused and how, what damage is told of."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from occam_sdk import MediaError
from occam_sdk.audio.decode import AudioFile
from occam_sdk.media import open_media, probe
from occam_sdk.video.decode import VideoFile

from . import clips
from .shared import CLIPS, needs_clips

FASTSTART = {"movflags": "faststart"}
IMAGES = [clips.numbered(index) for index in range(75)]
KINDS = {
    ".mp4": {"muxer": FASTSTART, "options": {"g": "10"}},
    ".mkv": {"options": {"g": "10"}},
    ".avi": {"codec": "mpeg4", "sound_codec": "libmp3lame"},
    ".ts": {"options": {"g": "10"}},
    ".mpg": {"codec": "mpeg1video", "sound_codec": "mp2"},
}


def make_clip(tmp_path: Path, suffix: str) -> Path:
    """3 s of numbered frames and a tone; the noise makes the packets big enough to be hit."""
    noise = np.random.default_rng(0).integers(-6, 7, (75, 120, 160, 3))
    images = [
        np.clip(clips.numbered(i, (160, 120)) + noise[i], 0, 255).astype(np.uint8)
        for i in range(75)
    ]
    sound = clips.tone(3.0)
    return clips.write_clip(tmp_path / f"clip{suffix}", images=images, sound=sound, **KINDS[suffix])


# --- what a file says of itself


@pytest.mark.parametrize(("with_video", "with_audio"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_probe_tells_which_tracks_there_are(tmp_path, suffix, with_video, with_audio):
    path = clips.write_clip(
        tmp_path / f"clip{suffix}",
        images=IMAGES[:25] if with_video else (),
        sound=clips.tone(1.0) if with_audio else None,
    )
    media = probe(path)
    assert (media.has_video, media.has_audio) == (with_video, with_audio)
    assert media.duration_s == pytest.approx(1.0, abs=0.05)
    assert media.path == path


@pytest.mark.parametrize(("suffix", "codec"), [(".mp3", "libmp3lame"), (".flac", "flac")])
def test_a_song_with_a_cover_picture_is_audio_only(tmp_path, suffix, codec):
    path = clips.write_clip(
        tmp_path / f"song{suffix}",
        sound=clips.tone(2.0),
        sound_codec=codec,
        cover=clips.numbered(40),
    )
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1  # the cover is there
    media = probe(path)
    assert (media.has_video, media.has_audio) == (False, True)
    assert list(VideoFile(path)) == []
    assert sum(piece.duration_s for piece in AudioFile(path)) == pytest.approx(2.0, abs=0.06)


def test_of_several_tracks_the_largest_picture_and_the_first_sound_are_taken(tmp_path):
    path = tmp_path / "tracks.mkv"
    with av.open(str(path), "w") as container:
        packets = []
        for index, size in enumerate([(32, 24), (64, 48), (48, 32)]):
            images = [clips.numbered(100 + index, size)] * 5
            packets += clips.video_packets(container, images)
        for level in (0.5, 0.05):
            packets += clips.sound_packets(container, clips.tone(1.5, level=level))
        clips.mux(container, packets)
    frames = list(VideoFile(path))
    assert [clips.number(frame.image) for frame in frames] == [101] * 5
    assert frames[0].image.shape == (48, 64, 3)
    (piece,) = AudioFile(path)
    assert np.sqrt(np.mean(piece.samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_a_track_without_a_decoder_counts_as_missing(tmp_path):
    path = clips.write_clip(tmp_path / "clip.mp4", images=IMAGES[:10], sound=clips.tone(1.5))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    assert (probe(path).has_video, probe(path).has_audio) == (False, True)
    assert list(VideoFile(path)) == []


def test_a_title_that_is_not_utf8_keeps_no_clip_from_opening(tmp_path):
    path = clips.write_clip(tmp_path / "clip.mkv", images=IMAGES[:5], title="TITELTITEL")
    data = path.read_bytes()
    assert b"TITELTITEL" in data
    path.write_bytes(data.replace(b"TITELTITEL", b"\xe4\xf6\xfc\xff\xfe\xe4\xf6\xfc\xff\xfe"))
    assert len(list(VideoFile(path))) == 5


@pytest.mark.parametrize(
    "name", ["10:30.mp4", "http:x.mp4", "a b%03d.mp4", "fühl mal 🙂.mp4", "-y.mp4", "no_suffix"]
)
def test_any_file_name_opens(tmp_path, name, monkeypatch):
    clips.write_clip(tmp_path / "clip.mp4", images=IMAGES[:5]).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(list(VideoFile(name))) == 5
    assert len(list(VideoFile(tmp_path / name))) == 5


# --- what is refused


def picture(suffix: str) -> bytes:
    done, data = cv2.imencode(suffix, clips.numbered(7))
    assert done
    return data.tobytes()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("clip.txt", "a clip" * 500)
    return buffer.getvalue()


TEXT = b"Not a clip, only a few words about one.\n" * 50
SUBTITLES = b"1\n00:00:00,000 --> 00:00:01,000\nHello\n\n2\n00:00:01,000 --> 00:00:02,000\nBye\n"
FILES = {
    "empty.mp4": (b"", "empty"),
    "text.mp4": (TEXT, "not a clip"),
    "text.txt": (TEXT, "not a clip"),
    "notes.nfo": (TEXT, "not a clip"),
    "data.json": (json.dumps({"clip": [1, 2, 3]}).encode() * 20, "not a clip"),
    "data.mp4": (json.dumps({"clip": [1, 2, 3]}).encode() * 20, "not a clip"),
    "archive.zip": (zipped(), "not a clip"),
    "archive.mkv": (zipped(), "not a clip"),
    "noise.mp4": (np.random.default_rng(3).bytes(20_000), "not a clip"),
    "zeros.mp4": (bytes(20_000), "not a clip"),
    "subtitles.srt": (SUBTITLES, "not a clip"),
    "subtitles.mp4": (SUBTITLES, "not a clip"),
    "picture.png": (picture(".png"), "predict_image"),
    "picture.jpg": (picture(".jpg"), "predict_image"),
    "picture.webp": (picture(".webp"), "predict_image"),
    "picture.bmp": (picture(".bmp"), "predict_image"),
    "picture.tiff": (picture(".tiff"), "predict_image"),
    "picture.gif": (picture(".gif"), "predict_image"),
    "picture.mp4": (picture(".png"), "predict_image"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_clip_is_refused_by_name_and_with_a_remedy(tmp_path, name):
    data, words = FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    for read in (probe, lambda p: list(VideoFile(p)), lambda p: list(AudioFile(p))):
        with pytest.raises(MediaError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert any(verb in str(caught.value) for verb in ("give", "use", "copy"))


@pytest.mark.parametrize("name", ["nothing.mp4", "no\0name.mp4", "n" * 300 + ".mp4", "file/x.mp4"])
def test_a_missing_file_is_refused(tmp_path, name):
    (tmp_path / "file").write_bytes(TEXT)
    with pytest.raises(MediaError, match="no such file; check the name"):
        probe(tmp_path / name)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(MediaError, match="not a file"):
        probe(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads any file")
def test_an_unreadable_file_is_refused(tmp_path):
    path = clips.write_clip(tmp_path / "clip.mp4", images=IMAGES[:3])
    path.chmod(0)
    with pytest.raises(MediaError, match="permissions"):
        probe(path)


def test_a_subtitle_track_alone_is_refused(tmp_path):
    source, path = tmp_path / "subtitles.srt", tmp_path / "subtitles.mkv"
    source.write_bytes(SUBTITLES)
    with av.open(str(source)) as subtitles, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(subtitles.streams.subtitles[0])
        for packet in subtitles.demux():
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    with pytest.raises(MediaError, match="neither a video nor an audio track"):
        probe(path)


@pytest.mark.parametrize("suffix", [".mp4", None])
@pytest.mark.parametrize("kind", ["hls", "concat", "sdp", "dash", "remote"])
def test_a_playlist_makes_nothing_open_other_files_or_the_network(tmp_path, kind, suffix):
    """Each plays the clip beside it in FFmpeg itself; the remote one would wait for an answer."""
    clips.write_clip(tmp_path / "secret.ts", images=IMAGES[:10])
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n"
    text, natural = {
        "hls": (hls.format("secret.ts"), ".m3u8"),
        "remote": (hls.format("http://192.0.2.1/secret.ts"), ".m3u8"),
        "concat": ("ffconcat version 1.0\nfile secret.ts\n", ".ffconcat"),
        "sdp": (
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
            "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
            ".sdp",
        ),
        "dash": (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period><AdaptationSet>'
            '<Representation id="1" bandwidth="1"><BaseURL>secret.ts</BaseURL></Representation>'
            "</AdaptationSet></Period></MPD>",
            ".mpd",
        ),
    }[kind]
    path = tmp_path / f"playlist{suffix or natural}"
    path.write_text(text)
    with pytest.raises(MediaError, match="not a clip"):
        probe(path)


def test_ffmpeg_itself_follows_a_playlist(tmp_path):
    """The test above tests something only as long as this holds."""
    clips.write_clip(tmp_path / "secret.ts", images=IMAGES[:10])
    path = tmp_path / "playlist.ffconcat"
    path.write_text("ffconcat version 1.0\nfile secret.ts\n")
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) == 10


# --- damage


@pytest.mark.parametrize("suffix", KINDS)
def test_an_intact_clip_claims_no_damage(tmp_path, suffix):
    path = make_clip(tmp_path, suffix)
    video, audio = VideoFile(path), AudioFile(path)
    assert len(list(video)) == 75
    assert sum(piece.duration_s for piece in audio) == pytest.approx(3.0, abs=0.1)
    assert not video.damage.truncated
    assert not audio.damage.truncated
    assert audio.damage.notes == []


@pytest.mark.parametrize(
    ("suffix", "more"),
    [
        (".mp4", {"muxer": {"movflags": "frag_keyframe+empty_moov"}}),
        (".mkv", {"times_s": clips.regular(75, start_s=20.0), "sound_start_s": 20.0}),
        (".mp4", {"times_s": clips.regular(75, start_s=20.0), "sound_start_s": 20.0}),
        (".mkv", {"sound": clips.tone(9.0)}),
        (".mp4", {"sound": clips.tone(9.0)}),
        (".mp4", {"times_s": [*clips.regular(74), 9.0]}),
        (".mkv", {"times_s": [*clips.regular(74), 9.0]}),
        (".mp4", {"options": {"bf": "0"}}),
    ],
    ids=["fragments", "mkv-late", "mp4-late", "mkv-long-sound", "mp4-long-sound", "mp4-pause",
         "mkv-pause", "no-b-frames"],
)  # fmt: skip
def test_an_unusual_but_intact_clip_claims_no_damage(tmp_path, suffix, more):
    settings = {"images": IMAGES, "sound": clips.tone(3.0), **more}
    path = clips.write_clip(tmp_path / f"clip{suffix}", **settings)
    video, audio = VideoFile(path), AudioFile(path)
    assert len(list(video)) == 75
    assert list(audio)
    assert (video.damage.notes, audio.damage.notes) == ([], [])


def test_a_wav_written_to_a_pipe_claims_no_damage(tmp_path):
    path = clips.write_clip(tmp_path / "sound.wav", sound=clips.tone(1.93), sound_codec="pcm_s16le")
    data = bytearray(path.read_bytes())
    size = data.index(b"data") + 4
    data[4:8] = data[size : size + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(data)
    audio = AudioFile(path)
    assert sum(piece.duration_s for piece in audio) == pytest.approx(1.93, abs=0.01)
    assert audio.damage.notes == []


@pytest.mark.parametrize("suffix", KINDS)
def test_of_a_cut_clip_the_beginning_comes_out_and_the_loss_is_told(tmp_path, suffix):
    path = clips.cut(make_clip(tmp_path, suffix), 0.6)
    video, audio = VideoFile(path), AudioFile(path)
    numbers = [clips.number(frame.image) for frame in video]
    assert 30 <= len(numbers) <= 70
    assert numbers[:30] == list(range(30))
    assert 1.2 <= sum(piece.duration_s for piece in audio) <= 2.6
    assert video.damage.truncated
    assert any("video track" in note for note in video.damage.notes)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flac"])
def test_of_a_cut_sound_the_loss_is_told_with_its_length(tmp_path, suffix):
    codec = "flac" if suffix == ".flac" else "aac"
    sound = clips.speech_like(6.0, 44_100)
    path = clips.write_clip(
        tmp_path / f"sound{suffix}", sound=sound, sound_codec=codec, sound_hz=44_100,
        muxer=FASTSTART if suffix == ".mp4" else None,
    )  # fmt: skip
    audio = AudioFile(clips.cut(path, 0.5))
    assert 1.0 < sum(piece.duration_s for piece in audio) < 5.0
    assert audio.damage.truncated
    assert "of 6.0 s" in " ".join(audio.damage.notes)


@pytest.mark.parametrize("seed", [None, 1, 2], ids=["zeros", "noise-1", "noise-2"])
@pytest.mark.parametrize("suffix", KINDS)
def test_a_clip_scratched_in_the_middle_goes_on_behind_the_scratch(tmp_path, suffix, seed):
    path = clips.scratch(make_clip(tmp_path, suffix), 0.4, 0.5, seed)
    video, audio = VideoFile(path), AudioFile(path)
    frames, pieces = list(video), list(audio)
    times_s = [frame.time_s for frame in frames]
    assert 45 <= len(frames) <= 75
    assert (np.diff(times_s) > 0).all()
    assert clips.number(frames[-1].image) == 74
    assert sum(piece.duration_s for piece in pieces) > 2.0
    if suffix in (".mp4", ".ts", ".mpg"):  # the others skip a damaged block without a trace
        assert video.damage.truncated
        assert video.damage.notes


@pytest.mark.parametrize("suffix", KINDS)
def test_no_damage_raises(tmp_path, suffix):
    """Whatever is scratched, the clip is refused as a whole or what can be decoded comes out."""
    path = make_clip(tmp_path, suffix)
    rng = np.random.default_rng(11)
    for seed in range(8):
        begin = rng.uniform(0, 0.9)
        broken = clips.scratch(path, begin, begin + rng.uniform(0.001, 0.1), seed)
        try:
            frames, pieces = list(VideoFile(broken)), list(AudioFile(broken))
        except MediaError:
            continue
        assert (np.diff([frame.time_s for frame in frames]) > 0).all()
        assert all(np.abs(piece.samples).max(initial=0) <= 1 for piece in pieces)


def test_an_mp4_without_its_index_is_refused(tmp_path):
    path = clips.write_clip(tmp_path / "clip.mp4", images=IMAGES)
    with pytest.raises(MediaError, match="cut or damaged"):
        probe(clips.cut(path, 0.6))


def test_an_open_container_is_closed_when_the_reader_stops_early(tmp_path):
    path = make_clip(tmp_path, ".mp4")
    reader = iter(VideoFile(path))
    next(reader)
    reader.close()
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc to see which files are open")
    open_files = [fd.readlink() for fd in descriptors.iterdir() if fd.is_symlink()]
    assert path not in open_files


@needs_clips
def test_the_real_clips_claim_no_damage():
    told = {}
    for path in sorted(CLIPS.iterdir()):
        with open_media(path):
            video, audio = VideoFile(path), AudioFile(path)
            times_s = [frame.time_s for frame in video]
            pieces = list(audio)
        assert len(times_s) > 50
        assert abs(times_s[0]) < 0.05
        assert (np.diff(times_s) > 0).all()
        if probe(path).has_audio:
            assert pieces[-1].start_s + pieces[-1].duration_s == pytest.approx(video.end_s, abs=0.1)
        told[path.name] = video.damage.notes + audio.damage.notes
    assert {name: notes for name, notes in told.items() if notes} == {}
    assert len(told) >= 10
