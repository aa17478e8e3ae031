for verb in record replay fill info dump stats diff verify repair import "nvmm identify" "nvmm list"; do
    tracectl help $verb | grep -q "tracectl $verb " || echo "$verb has none"
    tracectl help $verb | grep -q "^ *Example" || echo "$verb has no example"
done
