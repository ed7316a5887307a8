# Each target is one line over `python -m ci`, which is what Windows and conda users run without make.
PYTHON = python3
PROFILE = quick
CHAPTERS = all

.PHONY: book test offline pdf lab bench clean help
help:  ; @$(PYTHON) -m ci help
book:  ; @$(PYTHON) -m ci book --profile "$(PROFILE)" --chapters "$(CHAPTERS)"
test:  ; @$(PYTHON) -m ci test
offline: ; @$(PYTHON) -m ci offline
pdf:   ; @$(PYTHON) -m ci pdf
lab:   ; @$(PYTHON) -m ci lab
bench: ; @$(PYTHON) -m ci bench
clean: ; @$(PYTHON) -m ci clean
