tracectl --version
