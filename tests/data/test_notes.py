"""What was loaded is noted where somebody asks for it."""

import json

from kdlib import load_data


def test_every_data_set_that_is_loaded_is_noted(tmp_path, monkeypatch):
    file = tmp_path / "data.jsonl"
    monkeypatch.setenv("KDLIB_DATA_NOTES", str(file))
    data = load_data("digits")
    load_data("digits", size=32)
    first, second = map(json.loads, file.read_text().splitlines())
    assert first["data"].startswith("digits (")
    assert first["fingerprint"] == data.train.fingerprint()
    assert first["fingerprint"] != second["fingerprint"]
    assert first["images"] == {"train": len(data.train), "val": len(data.val), "test": len(data.test)}


def test_nothing_is_noted_where_nobody_asks(monkeypatch):
    monkeypatch.delenv("KDLIB_DATA_NOTES", raising=False)
    monkeypatch.setattr("kdlib.data.split.Split.fingerprint", None)
    load_data("digits")
