"""What tests share: tiny models, files of every kind, a ComfyUI to talk to."""
