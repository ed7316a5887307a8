# Each target is one line over `python -m ci`, which is what Windows and conda users run without make.
PYTHON = python3
PROFILE = quick
CHAPTERS = all

.PHONY: book test lab bench clean help
help:  ; @$(PYTHON) -m ci help
book:  ; @$(PYTHON) -m ci book --profile "$(PROFILE)" --chapters "$(CHAPTERS)"
test:  ; @$(PYTHON) -m ci test
lab:   ; @$(PYTHON) -m ci lab
bench: ; @$(PYTHON) -m ci bench
clean: ; @$(PYTHON) -m ci clean
