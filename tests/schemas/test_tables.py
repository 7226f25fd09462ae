"""The schemas themselves."""

from __future__ import annotations

import itertools
import json

import pyarrow as pa
import pytest

from schemas.tables import INDEX, LANDMARKS, PARAMS, SCHEMA_HISTORY, SCHEMA_VERSION, TABLES, Table

DESIGNED = {
    "index": "clip_id source_id source_uri source_sha256 speaker split start_us end_us num_frames fps_num fps_den width"
    " height shard row status reason nme_mean nme_p95 valid_ratio speech_ratio sync_offset_ms sync_confidence language"
    " transcript emotion emotion_confidence valence arousal review track has_audio licence labels warnings"
    " model_sha256 head_model held_out_nme uncertainty_mm jitter_px detector_jitter_px psnr_db detector"
    " transcript_mismatch words_per_minute words_offset_ms words_outside_speech speech_without_words word_flags"
    " speaker_score speaker_score_min speaker_margin num_faces single_face_ratio sync_applied_ms"
    " sync_offset_after_ms face_px face_px_worst sharpness sharpness_worst brightness brightness_worst"
    " burnt burnt_worst yaw_deg yaw_deg_worst pitch_deg pitch_deg_worst roll_deg roll_deg_worst occlusion"
    " occlusion_worst blockiness blockiness_worst bits_per_pixel bits_per_pixel_worst snr_db snr_db_worst"
    " speech_modulation speech_modulation_worst clipped clipped_worst body_residual body_penetration"
    " body_implausible body_jitter left_hand_ratio right_hand_ratio duplicate_group emotion_intensity"
    " emotion_source emotion_given emotion_given_intensity style_syllables_per_s style_pause_ratio style_pause_s"
    " style_pitch_hz style_pitch_range_st style_loudness_range_db style_head_speed_deg_s style_head_rhythm_hz"
    " style_mouth_range style_brow_range style_eye_range style_smile style_asymmetry style_blinks_per_min"
    " style_gaze_away_ratio style_gestures_per_min style_gesture_space_m",
    "params": "clip_id num_frames pts_us head_model shape expression global_pose neck_pose jaw_pose left_eye_pose"
    " right_eye_pose translation focal_px principal_point valid residual_px nme held_out_nme uncertainty_mm at_limit"
    " body_model betas body_pose left_hand_pose right_hand_pose body_global_pose body_translation"
    " body_joint_valid emotion_probabilities affect clip_emotion style_embedding style_model",
    "landmarks": "clip_id num_frames pts_us face_xy valid confidence blendshapes detector"
    " fingerprint pose_xyc left_hand_xyc right_hand_xyc body_detector",
    "words": "clip_id start_us end_us label score interpolated source position",
    "phones": "clip_id start_us end_us label score interpolated source",
    "events": "clip_id kind start_us end_us label score interpolated source",
}


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_columns_are_the_promised_ones(table: Table) -> None:
    assert table.schema.names == DESIGNED[table.name].split()
    assert table.schema.metadata[b"talkset.table"] == table.name.encode()
    assert table.schema.metadata[b"talkset.schema_version"] == SCHEMA_VERSION.encode()


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_lists_are_described_and_flat(table: Table) -> None:
    for column, field in zip(table.columns, table.schema, strict=True):
        assert field.metadata[b"meaning"]
        assert pa.types.is_list(field.type) == (b"shape" in field.metadata)
        if pa.types.is_list(field.type):
            assert field.type.value_type in (pa.float32(), pa.int64(), pa.bool_())
            assert b"unit" in field.metadata or field.type.value_type == pa.bool_()
            assert len([axis for axis in json.loads(field.metadata[b"shape"]) if axis in ("S", "E", "L")]) <= 1
        assert not (column.floating and column.label)


def test_rotation_and_space_are_named() -> None:
    pose = PARAMS.schema.field("global_pose").metadata
    assert (pose[b"rotation"], pose[b"space"], pose[b"unit"]) == (b"axis_angle", b"camera", b"rad")
    assert json.loads(LANDMARKS.schema.field("face_xy").metadata[b"shape"]) == ["T", "L", 2]


def test_split_columns_are_leaf_paths() -> None:
    names = ("face_xy", "confidence", "blendshapes", "pose_xyc", "left_hand_xyc", "right_hand_xyc")
    assert LANDMARKS.split_columns == [f"{name}.list.element" for name in names]
    assert "focal_px" in PARAMS.split_columns
    assert "nme_mean" in INDEX.split_columns


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_an_older_version_has_what_it_had(table: Table) -> None:
    versions = [table.at(version) for version in SCHEMA_HISTORY]
    assert versions[-1].schema.equals(table.schema, check_metadata=True)
    for older, newer in itertools.pairwise(versions):
        kept = [name for name in newer.schema.names if name in older.schema.names]
        assert kept == older.schema.names
        assert newer.schema.names[: len(kept)] == kept  # new columns come last
    assert all(column.nullable for column in table.columns if column.since != next(iter(SCHEMA_HISTORY)))


def test_mediapipe_was_the_only_detector() -> None:
    assert json.loads(LANDMARKS.at("1.1.0").schema.field("face_xy").metadata[b"shape"]) == ["T", 478, 2]
