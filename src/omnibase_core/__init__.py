from omnibase_core._moved import install

install()
del install
