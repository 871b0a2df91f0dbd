"""What `--help` of the command says beside its options."""

DESCRIPTION = """\
Restores and enlarges pictures and films, as the node does in ComfyUI. A second run does only what
is missing or changed; a film goes on at the segment, of about 48 frames, where a run was stopped.
Pictures keep their colour profile, EXIF, XMP, IPTC, comments and PNG texts where the format of the
result can hold them, and their dpi: the print grows with the picture. Grey stays grey.
Exit code: 0 all is done, 1 some files failed, 2 nothing could be done or the run could not go on,
130 stopped by Ctrl-C, 141 nobody reads the report any longer.
"""
FILMS = """\
The result is of the kind that the film is, whatever its name says; AVI becomes Matroska. What is
converted or left out is told in a line, and in the field notes of --json:

                                  .mp4        .mov        .mkv   .webm
  sound                           c           c           c      c
  subtitles in text               c           c           c      c
  subtitles in pictures           DVD's       DVD's       kept   no
  chapters, languages, titles     kept        kept        kept   kept
  default and forced flags        kept        default     kept   kept
  attachments (fonts)             no          no          kept   no
  cover picture                   kept        no          kept   no
  time code                       kept        kept        a tag  a tag
  other data                      some        some        no     no
  HDR mastering, light level      libx264, libx265 and libsvtav1 keep it
  alpha                           ffv1 and prores_ks keep it
  HDR10+, Dolby Vision, closed captions, further moving pictures: no

  c: kept where the container can hold it, else converted
"""
