"""Kinds of film files, and which of them results are."""

CONTAINERS = {  # suffix of a film -> suffix and container of the result
    ".mp4": (".mp4", "mp4"),
    ".m4v": (".m4v", "mp4"),
    ".mov": (".mov", "mov"),
    ".mkv": (".mkv", "matroska"),
    ".webm": (".webm", "webm"),
    ".avi": (".mkv", "matroska"),  # AVI has no time stamps
}
