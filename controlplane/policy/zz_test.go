package policy
import ("testing";"os";"time";"fmt";"path/filepath")
func TestZZ(t *testing.T){
 fs,_:=filepath.Glob(os.Getenv("ZZ")+"/*.yaml")
 for _,f:=range fs { t0:=time.Now(); _,l,_:=Load(f); e,w:=l.Count(); m:=""; if len(l)>0 {m=l[0].Message}; fmt.Printf("%-12s %8v %d %d %.90s\n", filepath.Base(f), time.Since(t0).Round(time.Millisecond), e,w, m) }
}
